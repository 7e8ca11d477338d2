"""Stages of one `/v1/extract` on an idle stack, one line per stage, compared with the bare model call.

The bare model call is the engine's work for the text, like `predict_entities` in the library: cut it into words and
tokens, collate, forward, decode. Everything else is the path.

`python -m benchmarks.measurements.path [--calls N] [--pause MS] [--fake]`. Gateway and worker are the real ones,
started by this module so that they record when they pass their stages (all processes share one clock).
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

from benchmarks.children import start_stack
from benchmarks.texts import LABELS
from worker.protocols import Engine, Window

TEXT = "Ines Faber joined Northwind Foods in Lisbon on 3 March 2019 and took over the team that builds the tablet."
SHIPPED = Path(__file__).parents[2] / "models" / "gleaner-small"
MARKS = "BENCH_MARKS"
WARM_UP = 20
Calls = list[tuple[int, int]]
Marks = list[tuple[int, str]]


def main() -> None:
    """Run the benchmark, or one of its children."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurements.path", description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--pause", type=float, default=5.0, help="pause between two calls (ms)")
    parser.add_argument(
        "--fake", action="store_true", help="use a model that takes no time, to measure the path only"
    )
    parser.add_argument("--child", choices=("gateway", "worker", "library"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pause_s = arguments.pause / 1000
    if arguments.child:
        sys.exit(_run_child(arguments.child, fake=arguments.fake, count=arguments.calls, pause_s=pause_s))
    path, model = measure_path(arguments.calls, pause_s, fake=arguments.fake)
    print(f"\nthe engine takes {model:.2f} ms (cut, collate, forward, decode); the path adds {path - model:.2f} ms")
    if not arguments.fake:
        print(f"the library's own call takes {_time_library(arguments.calls, pause_s):.2f} ms")


def measure_path(calls: int, pause_s: float = 0.005, *, fake: bool = False) -> tuple[float, float]:
    """Print the stages; return medians of a call, and of the bare model call in it (ms)."""
    more = ("--fake",) if fake else ()
    modules = {role: ("benchmarks.measurements.path", "--child", role, *more) for role in ("gateway", "worker")}
    with tempfile.TemporaryDirectory(prefix="gl-") as name:
        with start_stack(modules, **{MARKS: name}) as running:
            timings = _time_calls(running.url, running.key, calls, pause_s)
            httpx_ms = _time_httpx(running.url, running.key, calls, pause_s)
            for child in running.children.values():
                child.drain()
        marks = [(at, stage) for file in Path(name).iterdir() for at, stage in json.loads(file.read_text())]
    whole, model = _report_stages(timings, marks)
    print(f"the same call by httpx: p50 {httpx_ms:.2f} ms")
    return whole, model


def _time_calls(url: str, key: str, count: int, pause_s: float) -> Calls:
    """Return start and end of each call (ns), by a minimal client, since its own time is part of the call."""
    body = orjson.dumps({"labels": list(LABELS), "documents": [{"text": TEXT}]})
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    calls, connection = [], HTTPConnection(urlsplit(url).netloc, timeout=60)
    for _ in range(WARM_UP + count):
        time.sleep(pause_s)
        began = time.monotonic_ns()
        connection.request("POST", "/v1/extract", body, headers)
        response = connection.getresponse()
        answer = response.read()
        calls.append((began, time.monotonic_ns()))
        assert response.status == 200, answer
    connection.close()
    return calls[WARM_UP:]


def _time_httpx(url: str, key: str, count: int, pause_s: float) -> float:
    """Return the median of the same call by httpx, like in Gleaner's client (ms)."""
    body = {"labels": list(LABELS), "documents": [{"text": TEXT}]}
    times = []
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, trust_env=False, timeout=60) as client:
        for _ in range(WARM_UP + count):
            time.sleep(pause_s)
            began = time.monotonic_ns()
            client.post("/v1/extract", json=body).raise_for_status()
            times.append((time.monotonic_ns() - began) / 1e6)
    return statistics.median(times[WARM_UP:])


def _report_stages(calls: Calls, marks: Marks) -> tuple[float, float]:
    """Print the median time of each stage; return medians of the whole and of the bare model call (ms)."""
    marks.sort()
    offsets, at = defaultdict(list), 0
    for began, ended in calls:
        seen: set[str] = set()
        while at < len(marks) and marks[at][0] < began:
            at += 1
        while at < len(marks) and marks[at][0] < ended:
            moment, stage = marks[at]
            if stage not in seen:
                offsets[stage].append((moment - began) / 1e6)
            seen.add(stage)
            at += 1
    whole = sorted((ended - began) / 1e6 for began, ended in calls)
    rows = [(statistics.median(ms), stage) for stage, ms in offsets.items() if len(ms) > len(calls) / 2]
    print(f"{'at ms':>8} {'+ ms':>7}  passed")
    before = 0.0
    for ms, stage in [*sorted(rows), (statistics.median(whole), "client has the response")]:
        print(f"{ms:8.2f} {ms - before:7.2f}  {stage}")
        before = ms
    print(f"{len(whole)} calls: p50 {whole[len(whole) // 2]:.2f} ms, p95 {whole[len(whole) * 95 // 100]:.2f} ms")
    cut, model = _stage_ms(offsets, "cut", "cut"), _stage_ms(offsets, "collate", "decode")
    print(f"cut {cut:.2f} ms, collate to decode {model:.2f} ms; a call less the latter {before - model:.2f} ms")
    return before, cut + model


def _stage_ms(offsets: Mapping[str, Sequence[float]], first: str, last: str) -> float:
    """Return the median from the start of one stage of the worker to the end of another (ms)."""
    pairs = zip(offsets[f"worker: {first} begins"], offsets[f"worker: {last} is done"], strict=True)
    return statistics.median(done - begun for begun, done in pairs)


def _time_library(count: int, pause_s: float) -> float:
    """Return the median of the library's own call for the same text, in a separate process (ms)."""
    import subprocess

    command = (sys.executable, "-m", "benchmarks.measurements.path", "--child", "library")
    more = ("--calls", str(count), "--pause", str(pause_s * 1000))
    return float(subprocess.run((*command, *more), check=True, capture_output=True, text=True).stdout.split()[-1])


def _run_child(role: str, *, fake: bool, count: int, pause_s: float) -> int:
    if role == "library":
        print(_time_predict(count, pause_s))
        return 0
    marks: Marks = []
    try:
        return _run_gateway(marks) if role == "gateway" else _run_worker(marks, fake=fake)
    finally:
        (Path(os.environ[MARKS]) / f"{role}.json").write_text(json.dumps(marks))


def _time_predict(count: int, pause_s: float) -> float:
    import torch
    from gliner import GLiNER

    from jobs.process.cpu import cpu_count

    torch.set_num_threads(cpu_count())
    model = GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)
    times = []
    for _ in range(WARM_UP + count):
        time.sleep(pause_s)
        began = time.perf_counter()
        model.predict_entities(TEXT, list(LABELS))
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times[WARM_UP:])


def _run_gateway(marks: Marks) -> int:
    from gateway.__main__ import main as serve
    from gateway.http.middleware import EdgeMiddleware
    from gateway.reading.job_waiter import Waiter
    from gateway.store.circuit_breaker import GuardedLedger

    _wrap_async(marks, EdgeMiddleware, "__call__", "gateway: request")
    _wrap_async(marks, Waiter, "_receive_message", "", after="gateway: wakeup")
    _wrap_async(marks, GuardedLedger, "run", "gateway: {0.script}")
    return serve()


def _run_worker(marks: Marks, *, fake: bool) -> int:
    from jobs.ledger import Ledger
    from worker.app import load_engine, run
    from worker.batching import batcher
    from worker.settings import WorkerSettings
    from worker.shards.runner import ShardRunner
    from worker.text import windows

    def load(settings: WorkerSettings) -> Engine:
        engine: Engine = _fake_engine() if fake else load_engine(settings)
        for stage in ("collate", "forward", "decode"):
            _wrap(marks, engine, stage, f"worker: {stage}")
        return engine

    _wrap(marks, ShardRunner, "extract_shard", "worker: message")
    _wrap(marks, Ledger, "run", "worker: {0.script}")
    _wrap(marks, windows, "cut_document", "worker: cut")
    _wrap(marks, batcher.MicroBatcher, "submit", "worker: submit")
    return run(WorkerSettings(), load)


def _fake_engine() -> Engine:
    from tests.support.engine import FakeEngine

    class ForgetfulEngine(FakeEngine):
        """A fake engine that stores no forward pass."""

        def forward(self, batch: tuple[Window, ...]) -> tuple[Window, ...]:
            self.forwards.clear()
            return super().forward(batch)

    return ForgetfulEngine()


def _wrap(marks: Marks, owner: Any, name: str, stage: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        with _record_stage(marks, stage, args):
            return original(*args, **kwargs)

    setattr(owner, name, call)


def _wrap_async(marks: Marks, owner: Any, name: str, stage: str, after: str = "") -> None:
    original: Callable[..., Any] = getattr(owner, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        with _record_stage(marks, stage, args, after):
            return await original(*args, **kwargs)

    setattr(owner, name, call)


@contextmanager
def _record_stage(marks: Marks, stage: str, args: tuple[Any, ...], after: str = "") -> Iterator[None]:
    named = stage.format(*(arg for arg in args if hasattr(arg, "script"))) if "{" in stage else stage
    if named:
        marks.append((time.monotonic_ns(), f"{named} begins"))
    yield
    marks.append((time.monotonic_ns(), after or f"{named} is done"))


if __name__ == "__main__":
    main()
