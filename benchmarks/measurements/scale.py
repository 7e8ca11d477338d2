"""Limits of one ledger: the workers it feeds, the load at which to split into cells, the price of documents.

`Costs` computes them from measured costs (`measure_costs`). `measure_growth` compares its predictions with real
processes: workers whose model only waits, so that more of them fit on a few cores.
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

from benchmarks.children import start_stack
from benchmarks.service import Service
from benchmarks.texts import LABELS, Mix, make_usual_mix
from jobs.schema import Document
from jobs.shards import MAX_SHARD_DOCUMENTS
from jobs.tasks import Tasks
from tests.support.processes.worker import DeadlyEngine
from worker.protocols import ShardRef
from worker.text.windows import JobContext, cut_document

LEDGER_SHARE = 0.7
"""Share of Redis' one core that should be used: above, replies wait for each other."""
MEMORY_SHARE = 0.7
"""Share of maxmemory above which new jobs are refused."""
OPEN_CHARACTERS = 230
"""Length of the texts with which memory is measured: the usual mix's mean."""
NOBODY = "nobody"
"""A model without workers."""
FAKE_PACE_S = 2.3e-4
"""Seconds per padded token with gleaner-small on two cores, bf16."""
AT_REST, REST_MB, MOST_JOBS = 4, 0.5, 24
"""A process is at rest when it grew by less than REST_MB over AT_REST jobs, or at the latest after MOST_JOBS."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds per document by part, and memory of a waiting document.

    Attributes:
        server_s: of Redis' one thread, for ledger and broker.
        gateway_s: of a gateway.
        worker_s: of a worker, without the model.
        model_s: wall time of a worker's model.
        open_bytes: memory in Redis for a document that is not finished.
        commands: Redis commands.
        stand_in_s: of the model's stand-in, which is not part of `worker_s`.
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
        """Documents per second of one worker."""
        return 1 / self.model_s

    @property
    def ledger_rate(self) -> float:
        """Documents per second that one ledger can serve."""
        return LEDGER_SHARE / self.server_s

    @property
    def workers_per_ledger(self) -> int:
        """Number of workers that one ledger feeds."""
        return math.floor(round(self.ledger_rate / self.worker_rate, 6))

    def predict_rate(self, workers: int, cores: int) -> float:
        """Return documents per second of `workers` workers if all processes but the model share `cores` cores."""
        by_cores = cores / (self.server_s + self.gateway_s + self.worker_s + self.stand_in_s)
        return min(workers * self.worker_rate, 1 / self.server_s, by_cores)

    def required_cells(self, rate: float, backlog: float, maxmemory_bytes: float) -> int:
        """Return the number of cells (a ledger with its gateways and workers) for a rate and a backlog."""
        by_memory = backlog * self.open_bytes / (MEMORY_SHARE * maxmemory_bytes)
        return max(1, math.ceil(rate / self.ledger_rate), math.ceil(by_memory))


def cost_per_million(rate: float, price_per_hour: float) -> float:
    """Return the price of a million documents on a machine with this rate per second and price per hour."""
    return 1e6 / rate / 3600 * price_per_hour


@dataclass(frozen=True, slots=True)
class Growth:
    """Measured and predicted documents per second with a number of workers."""

    workers: int
    measured: float
    predicted: float


@contextmanager
def start_fakes(workers: int, pace_s: float) -> Iterator[Service]:
    """Start the real service with `workers` workers whose model only waits."""
    names = ["worker", *(f"worker-{n}" for n in range(2, workers + 1))]
    modules = {"gateway": ("gateway",), **dict.fromkeys(names, ("tests.support.processes.worker",))}
    with start_stack(modules, TEST_PACE_S=str(pace_s), GLEANER_MODELS=f"gleaner-small,{NOBODY}") as running:
        yield Service(running)


def measure_costs(count: int, pace_s: float) -> Costs:
    """Measure the costs per document in one large job, with one worker whose model takes almost no time."""
    stand_in_s = _measure_stand_in_s(min(count, 2000))
    with start_fakes(1, 0.0) as service:
        service.run_one_job(make_usual_mix(200))
        info, usage = service.redis_info(), service.start_usage()
        service.run_one_job(make_usual_mix(count))
        spent, after = usage.spent(), service.redis_info()
        commands = float(after["total_commands_processed"]) - float(info["total_commands_processed"])
        open_bytes = _measure_open_bytes(
            service, max(500, min(count, 2000))
        )  # fewer would be lost in the buffers of connections
    return Costs(
        spent["server"] / count,
        spent["gateway"] / count,
        spent["worker"] / count - stand_in_s,
        measure_model_s(pace_s, min(count, 400)),
        open_bytes,
        commands / count,
        stand_in_s,
    )


def _measure_stand_in_s(count: int) -> float:
    """Return CPU seconds per document of the stand-in's collate, forward and decode, which belong to the model."""
    engine, owner = DeadlyEngine(), ShardRef("job", 0)  # the engine of those workers
    engine.pace_s = 0.0
    labels = dict.fromkeys(LABELS)
    plans = [
        cut_document(Document(0, "0", text), JobContext(owner, Tasks(labels)), engine)
        for text in make_usual_mix(count).texts
    ]
    windows = [window for plan in plans for window in plan.windows]
    began = time.process_time()
    for first in range(0, len(windows), MAX_SHARD_DOCUMENTS):
        batch = engine.collate(windows[first : first + MAX_SHARD_DOCUMENTS])
        engine.decode(batch, engine.forward(batch))
    return (time.process_time() - began) / count


def measure_model_s(pace_s: float, count: int) -> float:
    """Return seconds per document of one worker whose model takes `pace_s` per token."""
    with start_fakes(1, pace_s) as service:
        service.run_one_job(make_usual_mix(100))
        return service.run_one_job(make_usual_mix(count, seed=1)).seconds / count


def _measure_open_bytes(service: Service, count: int) -> float:
    """Return memory in Redis per waiting document of a model without workers; the text is hardly compressible."""
    rng = random.Random(0)
    texts = ["".join(rng.choices(string.ascii_letters + " ", k=OPEN_CHARACTERS)) for _ in range(count)]
    before = float(service.redis_info()["used_memory"])
    service.submit_job(texts, model=NOBODY)
    return (float(service.redis_info()["used_memory"]) - before) / count


def measure_growth(
    costs: Costs, sizes: tuple[int, ...], pace_s: float, cores: int, documents_per_worker: int
) -> list[Growth]:
    """Measure throughput for each number of workers, and predict it."""
    results = []
    for workers in sizes:
        with start_fakes(workers, pace_s) as service:
            service.run_one_job(make_usual_mix(50 * workers))
            count = documents_per_worker * workers
            seconds = service.run_one_job(make_usual_mix(count)).seconds
        results.append(Growth(workers, count / seconds, costs.predict_rate(workers, cores)))
    return results


@dataclass(frozen=True, slots=True)
class Tenfold:
    """Growth with ten times the documents: factor of the time, and MB of each process."""

    time: float
    grown_mb: dict[str, float]


def measure_tenfold(count: int, pace_s: float) -> Tenfold:
    """Run jobs of `count` documents until memory stops growing, then one of ten times as many.

    The first jobs fill bounded structures: threads, their heaps, buffers of connections. That takes a few jobs of
    more documents than a worker processes at once, and does not depend on a job's size.
    """
    with start_fakes(1, pace_s) as service:
        small, before = _run_until_rest(service, make_usual_mix(count))
        began = time.perf_counter()
        service.run_one_job(make_usual_mix(10 * count))
        large, after = time.perf_counter() - began, service.rss_mb()
    return Tenfold(large / small, {part: after[part] - before[part] for part in before})


def _run_until_rest(service: Service, mix: Mix) -> tuple[float, dict[str, float]]:
    """Return seconds of the job once no process grows any more, and the memory of the processes."""
    seconds: list[float] = []
    memory: list[dict[str, float]] = []
    while len(memory) < MOST_JOBS:
        began = time.perf_counter()
        service.run_one_job(mix)
        seconds.append(time.perf_counter() - began)
        memory.append({part: mb for part, mb in service.rss_mb().items() if part in ("gateway", "worker")})
        if len(memory) > AT_REST and all(
            mb - memory[-1 - AT_REST][part] < REST_MB for part, mb in memory[-1].items()
        ):
            break
    return statistics.median(seconds[-AT_REST:]), memory[-1]
