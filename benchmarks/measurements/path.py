"""Where the time of one `/v1/extract` goes on an idle stack: a line a stage, beside the bare model call.

The bare model call is what the engine alone takes for the text, as `predict_entities` does in the library: cut it
into words and pieces, collate, forward, decode. All the rest is the path.

`python -m benchmarks.measurements.path [--calls N] [--pause MS] [--fake]`. Gateway and worker are the real ones; a
composition root of this benchmark's own notes when they pass their stages (one clock serves all processes).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from benchmarks.children import stack
from benchmarks.texts import LABELS
from worker.protocols import Engine, Window

TEXT = "Ines Faber joined Northwind Foods in Lisbon on 3 March 2019 and took over the team that builds the tablet."
SHIPPED = Path(__file__).parents[2] / "models" / "gleaner-small"
MARKS = "BENCH_MARKS"
WARM_UP = 20
Spans = list[tuple[int, int]]
Marks = list[tuple[int, str]]


def main() -> None:
    """Measure, or be one of the children."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurements.path", description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--pause", type=float, default=5.0, help="between two calls (ms)")
    parser.add_argument("--fake", action="store_true", help="a model that takes no time: the path alone")
    parser.add_argument("--child", choices=("gateway", "worker", "library"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pause_s = arguments.pause / 1000
    if arguments.child:
        sys.exit(_child(arguments.child, fake=arguments.fake, count=arguments.calls, pause_s=pause_s))
    path, model = measure(arguments.calls, pause_s, fake=arguments.fake)
    print(f"\nthe engine alone {model:.2f} ms: cut, collate, forward, decode; the path adds {path - model:.2f} ms")
    if not arguments.fake:
        print(f"the library's own call {_library(arguments.calls, pause_s):.2f} ms")


def measure(calls: int, pause_s: float = 0.005, *, fake: bool = False) -> tuple[float, float]:
    """Print the stages; medians of a call, and of the bare model call in it (ms)."""
    more = ("--fake",) if fake else ()
    modules = {role: ("benchmarks.measurements.path", "--child", role, *more) for role in ("gateway", "worker")}
    with tempfile.TemporaryDirectory(prefix="gl-") as name:
        with stack(modules, **{MARKS: name}) as running:
            spans = _calls(running.url, running.key, calls, pause_s)
            by_httpx = _by_httpx(running.url, running.key, calls, pause_s)
            for child in running.children.values():
                child.drain()
        marks = [(at, what) for file in Path(name).iterdir() for at, what in json.loads(file.read_text())]
    whole, model = _report(spans, marks)
    print(f"the same call by httpx: p50 {by_httpx:.2f} ms")
    return whole, model


def _calls(url: str, key: str, count: int, pause_s: float) -> Spans:
    """When each call began and ended; by a client that does no more than it must, for its time is in the call."""
    body = orjson.dumps({"labels": list(LABELS), "documents": [{"text": TEXT}]})
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    found, connection = [], HTTPConnection(urlsplit(url).netloc, timeout=60)
    for _ in range(WARM_UP + count):
        time.sleep(pause_s)
        began = time.monotonic_ns()
        connection.request("POST", "/v1/extract", body, headers)
        response = connection.getresponse()
        answer = response.read()
        found.append((began, time.monotonic_ns()))
        assert response.status == 200, answer
    connection.close()
    return found[WARM_UP:]


def _by_httpx(url: str, key: str, count: int, pause_s: float) -> float:
    """Median of the same call by httpx, as Gleaner's own client makes it (ms)."""
    body = {"labels": list(LABELS), "documents": [{"text": TEXT}]}
    found = []
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, trust_env=False, timeout=60) as client:
        for _ in range(WARM_UP + count):
            time.sleep(pause_s)
            began = time.monotonic_ns()
            client.post("/v1/extract", json=body).raise_for_status()
            found.append((time.monotonic_ns() - began) / 1e6)
    return statistics.median(found[WARM_UP:])


def _report(calls: Spans, marks: Marks) -> tuple[float, float]:
    """Print when, in the median, each stage is passed; medians of the whole and of the bare model call (ms)."""
    marks.sort()
    offsets, at = defaultdict(list), 0
    for began, ended in calls:
        seen: set[str] = set()
        while at < len(marks) and marks[at][0] < began:
            at += 1
        while at < len(marks) and marks[at][0] < ended:
            moment, what = marks[at]
            if what not in seen:
                offsets[what].append((moment - began) / 1e6)
            seen.add(what)
            at += 1
    whole = sorted((ended - began) / 1e6 for began, ended in calls)
    rows = [(statistics.median(ms), what) for what, ms in offsets.items() if len(ms) > len(calls) / 2]
    print(f"{'at ms':>8} {'+ ms':>7}  passed")
    before = 0.0
    for ms, what in [*sorted(rows), (statistics.median(whole), "client has the answer")]:
        print(f"{ms:8.2f} {ms - before:7.2f}  {what}")
        before = ms
    print(f"{len(whole)} calls: p50 {whole[len(whole) // 2]:.2f} ms, p95 {whole[len(whole) * 95 // 100]:.2f} ms")
    cut, model = _between(offsets, "cut", "cut"), _between(offsets, "collate", "decode")
    print(f"cut {cut:.2f} ms, collate to decode {model:.2f} ms; a call less the latter {before - model:.2f} ms")
    return before, cut + model


def _between(offsets: Mapping[str, Sequence[float]], first: str, last: str) -> float:
    """Median from the beginning of one stage of the worker to the end of another (ms)."""
    pairs = zip(offsets[f"worker: {first} begins"], offsets[f"worker: {last} is done"], strict=True)
    return statistics.median(done - begun for begun, done in pairs)


def _library(count: int, pause_s: float) -> float:
    """Median of the library's own call for the same text, in a process of its own (ms)."""
    import subprocess

    command = (sys.executable, "-m", "benchmarks.measurements.path", "--child", "library")
    more = ("--calls", str(count), "--pause", str(pause_s * 1000))
    return float(subprocess.run((*command, *more), check=True, capture_output=True, text=True).stdout.split()[-1])


def _child(role: str, *, fake: bool, count: int, pause_s: float) -> int:
    if role == "library":
        print(_predict(count, pause_s))
        return 0
    marks: Marks = []
    try:
        return _gateway(marks) if role == "gateway" else _worker(marks, fake=fake)
    finally:
        (Path(os.environ[MARKS]) / f"{role}.json").write_text(json.dumps(marks))


def _predict(count: int, pause_s: float) -> float:
    import torch
    from gliner import GLiNER

    from jobs.process.cpu import cpu_count

    torch.set_num_threads(cpu_count())
    model = GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)
    found = []
    for _ in range(WARM_UP + count):
        time.sleep(pause_s)
        began = time.perf_counter()
        model.predict_entities(TEXT, list(LABELS))
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found[WARM_UP:])


def _gateway(marks: Marks) -> int:
    from gateway.__main__ import main as serve
    from gateway.http.middleware import EdgeMiddleware
    from gateway.reading.job_waiter import Waiter
    from gateway.store.circuit_breaker import GuardedLedger

    _around_async(marks, EdgeMiddleware, "__call__", "gateway: request")
    _around_async(marks, Waiter, "_receive_message", "", after="gateway: hint")
    _around_async(marks, GuardedLedger, "run", "gateway: {0.script}")
    return serve()


def _worker(marks: Marks, *, fake: bool) -> int:
    from jobs.ledger import Ledger
    from worker.app import load_engine, run
    from worker.batching import batcher
    from worker.settings import WorkerSettings
    from worker.shards.runner import ShardRunner
    from worker.text import windows

    def load(settings: WorkerSettings) -> Engine:
        engine: Engine = _fake() if fake else load_engine(settings)
        for stage in ("collate", "forward", "decode"):
            _around(marks, engine, stage, f"worker: {stage}")
        return engine

    _around(marks, ShardRunner, "extract_shard", "worker: message")
    _around(marks, Ledger, "run", "worker: {0.script}")
    _around(marks, windows, "cut_document", "worker: cut")
    _around(marks, batcher.MicroBatcher, "submit", "worker: submit")
    return run(WorkerSettings(), load)


def _fake() -> Engine:
    from tests.support.engine import FakeEngine

    class Fleeting(FakeEngine):
        """Remembers no forward pass."""

        def forward(self, batch: tuple[Window, ...]) -> tuple[Window, ...]:
            self.forwards.clear()
            return super().forward(batch)

    return Fleeting()


def _around(marks: Marks, owner: Any, name: str, what: str) -> None:
    made: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        with _noted(marks, what, args):
            return made(*args, **kwargs)

    setattr(owner, name, call)


def _around_async(marks: Marks, owner: Any, name: str, what: str, after: str = "") -> None:
    made: Callable[..., Any] = getattr(owner, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        with _noted(marks, what, args, after):
            return await made(*args, **kwargs)

    setattr(owner, name, call)


@contextmanager
def _noted(marks: Marks, what: str, args: tuple[Any, ...], after: str = "") -> Iterator[None]:
    named = what.format(*(arg for arg in args if hasattr(arg, "script"))) if "{" in what else what
    if named:
        marks.append((time.monotonic_ns(), f"{named} begins"))
    yield
    marks.append((time.monotonic_ns(), after or f"{named} is done"))


if __name__ == "__main__":
    main()
