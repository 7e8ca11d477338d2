"""What limits one ledger, how many workers it feeds, when to split into cells, and what a million documents cost.

Measured costs go in (`measure`), answers come out (`Costs`). `grow` holds the answers against real processes:
workers whose model only takes its time, so that more of them fit on a few cores.
"""

from __future__ import annotations

import math
import random
import statistics
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.children import stack
from benchmarks.service import Service
from benchmarks.texts import LABELS, Mix, usual
from jobs.schema import Document
from jobs.shards import MAX_SHARD_DOCUMENTS
from tests.support.processes.worker import DeadlyEngine
from worker.protocols import ShardRef
from worker.text.windows import JobContext, cut_document

LEDGER_SHARE = 0.7
"""Part of its one core that a ledger should use: above, answers wait for each other."""
MEMORY_SHARE = 0.7
"""Part of maxmemory above which new jobs are refused."""
OPEN_CHARACTERS = 230
"""Of the texts with which memory is measured: the usual mix's mean."""
NOBODY = "nobody"
"""A model that has no worker."""
FAKE_PACE_S = 2.3e-4
"""Seconds a padded token takes in gleaner-small on two cores, bf16."""
AT_REST, REST_MB, MOST_JOBS = 4, 0.5, 24
"""A process is at rest when it grew by less over so many jobs; after so many jobs it is taken as it is."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds a document by part, and what a document takes while it waits.

    Attributes:
        server_s: of the ledger's and the broker's one thread.
        gateway_s: of a gateway.
        worker_s: of a worker outside the model.
        model_s: wall time of the model, which a worker has one of.
        open_bytes: memory of the ledger for a document that is not finished.
        commands: of the server.
        stand_in_s: of what stands in for the model; `worker_s` leaves it out.
    """

    server_s: float
    gateway_s: float
    worker_s: float
    model_s: float
    open_bytes: float
    commands: float
    stand_in_s: float = 0.0

    @property
    def worker_rate(self) -> float:
        """Documents a second of one worker."""
        return 1 / self.model_s

    @property
    def ledger_rate(self) -> float:
        """Documents a second that one ledger should be given."""
        return LEDGER_SHARE / self.server_s

    @property
    def workers_per_ledger(self) -> int:
        """Workers that one ledger feeds."""
        return math.floor(round(self.ledger_rate / self.worker_rate, 6))

    def rate(self, workers: int, cores: int) -> float:
        """Documents a second of so many workers when everything runs on so many cores and the model on none."""
        by_cores = cores / (self.server_s + self.gateway_s + self.worker_s + self.stand_in_s)
        return min(workers * self.worker_rate, 1 / self.server_s, by_cores)

    def cells(self, rate: float, backlog: float, maxmemory_bytes: float) -> int:
        """Ledgers, each with gateways and workers of its own, for a rate and documents that wait at once."""
        by_memory = backlog * self.open_bytes / (MEMORY_SHARE * maxmemory_bytes)
        return max(1, math.ceil(rate / self.ledger_rate), math.ceil(by_memory))


def cost_per_million(rate: float, price_per_hour: float) -> float:
    """Of a million documents on a machine that does so many a second and costs so much."""
    return 1e6 / rate / 3600 * price_per_hour


@dataclass(frozen=True, slots=True)
class Growth:
    """Documents a second with so many workers, and what the model said."""

    workers: int
    measured: float
    predicted: float


@contextmanager
def fakes(workers: int, pace_s: float) -> Iterator[Service]:
    """The real service with so many workers whose model only takes its time."""
    names = ["worker", *(f"worker-{n}" for n in range(2, workers + 1))]
    modules = {"gateway": ("gateway",), **dict.fromkeys(names, ("tests.support.processes.worker",))}
    with stack(modules, TEST_PACE_S=str(pace_s), GLEANER_MODELS=f"gleaner-small,{NOBODY}") as running:
        yield Service(running)


def measure(count: int, pace_s: float) -> Costs:
    """What a document costs in one large job, from a run with one worker of no model time to speak of."""
    stand_in_s = _stand_in_s(min(count, 2000))
    with fakes(1, 0.0) as service:
        service.one_job(usual(200))
        info, usage = service.server_info(), service.usage()
        service.one_job(usual(count))
        spent, after = usage.spent(), service.server_info()
        commands = float(after["total_commands_processed"]) - float(info["total_commands_processed"])
        open_bytes = _open_bytes(service, max(500, min(count, 2000)))  # a few drown in the buffers of connections
    return Costs(
        spent["server"] / count,
        spent["gateway"] / count,
        spent["worker"] / count - stand_in_s,
        model_s(pace_s, min(count, 400)),
        open_bytes,
        commands / count,
        stand_in_s,
    )


def _stand_in_s(count: int) -> float:
    """CPU seconds a document of the stand-in's own collate, forward and decode, which are the model's part."""
    engine, owner = DeadlyEngine(), ShardRef("job", 0)  # those workers' very engine
    engine.pace_s = 0.0
    labels = dict.fromkeys(LABELS)
    plans = [cut_document(Document(0, "0", text), JobContext(owner, labels), engine) for text in usual(count).texts]
    windows = [window for plan in plans for window in plan.windows]
    began = time.process_time()
    for first in range(0, len(windows), MAX_SHARD_DOCUMENTS):
        batch = engine.collate(windows[first : first + MAX_SHARD_DOCUMENTS])
        engine.decode(batch, engine.forward(batch))
    return (time.process_time() - began) / count


def model_s(pace_s: float, count: int) -> float:
    """Seconds a document of one worker whose model has this pace."""
    with fakes(1, pace_s) as service:
        service.one_job(usual(100))
        return service.one_job(usual(count, seed=1)).seconds / count


def _open_bytes(service: Service, count: int) -> float:
    """Memory of the ledger for a waiting document of a model without workers; its text hardly shrinks."""
    rng = random.Random(0)
    texts = ["".join(rng.choices(string.ascii_letters + " ", k=OPEN_CHARACTERS)) for _ in range(count)]
    before = float(service.server_info()["used_memory"])
    service.submit(texts, model=NOBODY)
    return (float(service.server_info()["used_memory"]) - before) / count


def grow(costs: Costs, sizes: tuple[int, ...], pace_s: float, cores: int, documents_each: int) -> list[Growth]:
    """Throughput with so many workers each, beside the prediction."""
    found = []
    for workers in sizes:
        with fakes(workers, pace_s) as service:
            service.one_job(usual(50 * workers))
            count = documents_each * workers
            seconds = service.one_job(usual(count)).seconds
        found.append(Growth(workers, count / seconds, costs.rate(workers, cores)))
    return found


@dataclass(frozen=True, slots=True)
class Tenfold:
    """Ten times the documents: by what factor the time grew, and by how many MB the processes."""

    time: float
    grown_mb: dict[str, float]


def tenfold(count: int, pace_s: float) -> Tenfold:
    """Jobs of `count` documents until the processes have come to rest, then one of ten times as many.

    The first jobs fill what is kept and bounded: threads, their heaps, buffers of connections. That takes a few of
    more documents than a worker holds at once, and has nothing to do with a job's size.
    """
    with fakes(1, pace_s) as service:
        small, before = _at_rest(service, usual(count))
        began = time.perf_counter()
        service.one_job(usual(10 * count))
        large, after = time.perf_counter() - began, service.rss_mb()
    return Tenfold(large / small, {part: after[part] - before[part] for part in before})


def _at_rest(service: Service, mix: Mix) -> tuple[float, dict[str, float]]:
    """Seconds of the job once nobody's memory grows with it any more, and that memory."""
    seconds: list[float] = []
    seen: list[dict[str, float]] = []
    while len(seen) < MOST_JOBS:
        began = time.perf_counter()
        service.one_job(mix)
        seconds.append(time.perf_counter() - began)
        seen.append({part: mb for part, mb in service.rss_mb().items() if part in ("gateway", "worker")})
        if len(seen) > AT_REST and all(mb - seen[-1 - AT_REST][part] < REST_MB for part, mb in seen[-1].items()):
            break
    return statistics.median(seconds[-AT_REST:]), seen[-1]
