"""The tests' record of accepted jobs, and the verdict on their results.

It knows nothing of the ledger: documents go in and results come out over HTTP, and each document's expected
result is computed here, without a process, queue or Redis.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from threading import Event, Lock, Thread
from typing import Any, Self

import httpx
import orjson
from redis.exceptions import RedisError

from jobs import naming
from jobs.queue import celery_queues
from jobs.schema import Document, Priority
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import ALL_TASKS, FakeEngine
from tests.support.processes.harness import ServiceHarness
from worker.protocols import ShardRef, Spans
from worker.text import windows
from worker.text.merging import Findings, merge_windows

MODEL = "gleaner-small"
LABELS = {"person": None, "place": None, "product": None}
MIXED = (
    Tasks(LABELS),
    Tasks(
        LABELS, {"knows": RelationType(threshold=0.1), "lives in": RelationType(head=("person",), tail=("place",))}
    ),
    Tasks({}, {}, {"topic": Classification(labels={"sport": None, "politics": None})}),
    Tasks(
        {"person": "a human"}, {"knows": RelationType()}, {"tone": Classification(labels=LABELS, multi_label=True)}
    ),
)
"""Every combination of tasks, for documents that each ask another one."""
ACCEPT_S = 90.0
WORDS = ("the", "and", "of", "with", "near", "under", "seldom", "Anna", "Berlin", "Delta", "Lima", "Otto", "Rio")


def fault_free(texts: Sequence[str], mix: Sequence[Tasks] = (Tasks(LABELS),)) -> list[dict[str, Any]]:
    """Compute the results that the service returns for these texts without faults; attempts left out.

    Document n asks for tasks n of `mix`, and so on in turn.
    """
    engine, owner, rows = FakeEngine(ALL_TASKS), ShardRef("job", 0), []
    for index, text in enumerate(texts):
        context = windows.JobContext(owner, mix[index % len(mix)])
        plan = windows.cut_document(Document(index, str(index), text), context, engine)
        outcomes = [
            spans if isinstance(spans, Spans) else tuple(spans)
            for spans in engine.decode(plan.windows, plan.windows)
        ]
        rows.append(merge_windows(plan, Findings.collect(plan, outcomes), 1).to_dict())
        del rows[-1]["attempts"]
    return orjson.loads(orjson.dumps(rows))


def some_texts(rng: random.Random, count: int, longest: int = 40) -> list[str]:
    """Return short texts, 2 % of them several windows long."""

    def some_text() -> str:
        size = 700 if rng.random() < 0.02 else rng.randint(3, longest)
        return " ".join(rng.choice(WORDS) for _ in range(size))

    return [some_text() for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Entry:
    """An accepted job: its texts, and the indexes of documents that are meant to fail, with their codes.

    Attributes:
        mix: tasks of the documents, in turn.
    """

    job: str
    texts: tuple[str, ...]
    fails: dict[int, str]
    mix: Sequence[Tasks]


@dataclass
class Verdict:
    """Comparison of the results with the accepted documents.

    Attributes:
        documents: accepted.
        lost: without their one result, or with another's.
        doubled: results beyond one per document.
        wrong: results that differ from the fault-free one.
        rerun: documents that took more than one attempt; no harm.
        leftovers: entries that should have left the ledger and the broker.
        recovery_s: from the end of the fault until everything accepted was finished.
    """

    documents: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    rerun: int = 0
    leftovers: list[str] = field(default_factory=list)
    recovery_s: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if every promise was kept."""
        return not (self.lost or self.doubled or self.wrong or self.leftovers)


class Record:
    """Submits through the gateway and records the accepted jobs. Safe to share between threads.

    Attributes:
        options: further fields of every job.
        mix: tasks of the documents, in turn; a single one is the job's.
    """

    def __init__(self, harness: ServiceHarness, seed: int = 1) -> None:
        self.harness = harness
        self.rng = random.Random(seed)
        self.entries: list[Entry] = []
        self.codes: dict[int, int] = {}
        self.given_up = False
        self.options: dict[str, object] = {}
        self.mix: Sequence[Tasks] = (Tasks(LABELS),)
        self._lock = Lock()

    def submit(self, texts: Sequence[str], fails: dict[int, str] | None = None, **more: object) -> str:
        """Submit a job, repeating with one Idempotency-Key until it is accepted; return its id."""
        key, end = uuid.uuid4().hex, time.monotonic() + ACCEPT_S
        body = orjson.dumps({**_write_documents(texts, self.mix), **self.options, **more})
        while True:
            answer = self.post(body, key)
            if answer is not None and answer.status_code == 202:
                break
            assert time.monotonic() < end, f"not accepted: {answer and answer.text}"
            assert not self.given_up
            time.sleep(0.1)
        job: str = answer.json()["id"]
        self.remember(job, texts, fails)
        with self._lock:
            again = self.rng.random() < 0.3
        if again:  # a client that did not see the answer asks again: the same job
            answer = self.post(body, key)
            if answer is not None and answer.status_code == 202:
                assert answer.json()["id"] == job
        return job

    def remember(self, job: str, texts: Sequence[str], fails: dict[int, str] | None = None) -> None:
        """Add a job that the service accepted."""
        with self._lock:
            self.entries.append(Entry(job, tuple(texts), fails or {}, self.mix))

    def post(self, body: bytes, key: str) -> httpx.Response | None:
        """Send the request once; return None where no response came."""
        for gateway in self.harness.of("gateway"):
            with suppress(httpx.HTTPError):
                headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
                answer = httpx.post(
                    f"{gateway.url}/v1/jobs", content=body, headers=headers, timeout=10, trust_env=False
                )
                with self._lock:
                    self.codes[answer.status_code] = self.codes.get(answer.status_code, 0) + 1
                return answer
        return None

    def open_shards(self) -> int:
        """Return the size of open:<model>, or 1 where Redis does not answer."""
        try:
            with self.harness.server.client() as client:
                return int(client.zcard("{gleaner}:open:" + naming.model_slug(MODEL)))
        except RedisError:
            return 1

    def verdict(self, within_s: float = 45.0) -> Verdict:
        """Wait until no shard is open, then check every accepted document."""
        verdict, started = Verdict(), time.monotonic()
        while self.open_shards() and time.monotonic() - started < within_s:
            time.sleep(0.05)
        verdict.recovery_s = time.monotonic() - started
        [gateway, *_] = self.harness.of("gateway")
        with httpx.Client(base_url=gateway.url, timeout=20, trust_env=False) as client:
            for entry in self.entries:
                self._judge(client, entry, verdict)
        self._leftovers(verdict)
        del verdict.notes[5:]
        return verdict

    def _judge(self, client: httpx.Client, entry: Entry, verdict: Verdict) -> None:
        total = len(entry.texts)
        verdict.documents += total
        job = client.get(f"/v1/jobs/{entry.job}").json()
        counts = job.get("counts")
        if counts is None:
            verdict.lost += total
            verdict.notes.append(f"{entry.job}: {job.get('code')}")
            return
        answer = client.get(f"/v1/jobs/{entry.job}/results", headers={"Accept": "application/x-ndjson"})
        if answer.status_code != 200:
            verdict.lost += total
            verdict.notes.append(f"{entry.job}: results {answer.status_code} {answer.text[:200]}")
            return
        rows = [orjson.loads(line) for line in answer.content.splitlines()]
        expected = {row["index"]: row for row in fault_free(entry.texts, entry.mix)}
        seen: dict[int, dict[str, Any]] = {}
        for row in rows:
            verdict.rerun += row.pop("attempts") > 1
            verdict.doubled += row["index"] in seen
            seen[row["index"]] = row
        for index in range(total):
            row = seen.get(index)
            if row is None:
                verdict.lost += 1
            elif index in entry.fails:
                right = row["status"] == "failed" and row["error"]["code"] == entry.fails[index]
                verdict.wrong += not right
                if not right:
                    verdict.notes.append(f"{entry.job}/{index}: {row['status']} {row['error']}")
            elif row != expected[index]:
                verdict.wrong += 1
                verdict.notes.append(f"{entry.job}/{index}: {row['status']} {row['error']}")
        ended = counts["succeeded"] + counts["failed"]
        if counts["total"] != total or (len(seen) == total and ended != total):
            verdict.leftovers.append(f"{entry.job}: counts {counts}")

    def _leftovers(self, verdict: Verdict) -> None:
        with self.harness.server.client(1) as store, self.harness.server.client(0) as broker:
            remaining = {"open": self.open_shards()}
            for priority in Priority:
                queue = naming.queue_name(MODEL, priority)
                end = time.monotonic() + 5
                while (length := celery_queues.queue_length(broker, queue)) and time.monotonic() < end:
                    time.sleep(0.05)  # doubled messages are read and dropped
                remaining |= {queue: length, f"pub {queue}": store.zcard("{gleaner}:pub:" + queue)}
            sums = store.hmget("{gleaner}:sys", "open_chars", "reserve", "repairs")
            remaining |= dict(zip(("open_chars", "reserve", "repairs"), (int(x or 0) for x in sums), strict=True))
        verdict.leftovers += [f"{name}={value}" for name, value in remaining.items() if value]


def _write_documents(texts: Sequence[str], mix: Sequence[Tasks]) -> dict[str, Any]:
    """Return the documents and tasks of a job."""
    fields = [{name: value for name, value in tasks.to_wire().items() if value} for tasks in mix]
    if len(fields) == 1:
        return {**fields[0], "documents": [{"text": text} for text in texts]}
    return {
        "documents": [{"text": text, **questions} for text, questions in zip(texts, cycle(fields), strict=False)]
    }


class Load:
    """Submits small jobs continuously from several threads until the block ends."""

    def __init__(self, record: Record, clients: int = 2, most_open: int = 60, pause_s: float = 0.05) -> None:
        self._record = record
        self._most_open = most_open
        self._pause_s = pause_s
        self._stopping = Event()
        self._errors: list[BaseException] = []
        self._threads = [Thread(target=self._loop, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping.set()
        self._record.given_up = kind is not None
        for thread in self._threads:
            thread.join()
        if self._errors and kind is None:
            raise self._errors[0]

    def wait(self, jobs: int, within_s: float = 30.0) -> None:
        """Wait until `jobs` more jobs are accepted."""
        until, end = len(self._record.entries) + jobs, time.monotonic() + within_s
        while len(self._record.entries) < until and not self._errors:
            assert time.monotonic() < end, "no job is accepted any more"
            time.sleep(0.02)

    def _loop(self, number: int) -> None:
        rng = random.Random(self._record.rng.random() + number)
        try:
            while not self._stopping.is_set():
                if self._record.open_shards() < self._most_open:
                    priority = rng.choice(["standard", "standard", "interactive"])
                    self._record.submit(some_texts(rng, rng.choice([1, 5, 20, 70])), priority=priority)
                self._stopping.wait(self._pause_s)
        except BaseException as error:  # noqa: BLE001  # raised where the block ends
            self._errors.append(error)
