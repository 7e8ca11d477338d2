"""Rate of one-document jobs that the gateway accepts, compared with a bare FastAPI route with one Lua call.

`python -m benchmarks.measurements.accept [--seconds S] [--clients N] [--rounds R]`. One process each, the same
Redis, the same load from a separate process, in turn; no worker runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from urllib.parse import urlsplit

import redis.asyncio
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from benchmarks.children import Stack, start_stack
from benchmarks.load import encode_post, read_response
from benchmarks.texts import LABELS, make_texts
from benchmarks.usage import cpu_s
from jobs.observability.probes import ProbeServer
from tests.support.processes.harness import Child

STORE = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('INCR', KEYS[1] .. ':n')"
WARM_UP_S = 1.0


class Text(BaseModel):
    """A document of the bare route."""

    text: str


class Job(BaseModel):
    """Body of the bare route."""

    labels: list[str]
    documents: list[Text]


def main() -> None:
    """Run the benchmark, or one of its children."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurements.accept", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of a round")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("gateway", "bare"), help="measure this one only")
    parser.add_argument("--child", choices=("bare", "load"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "bare":
        _serve_bare()
    elif arguments.child == "load":
        print(asyncio.run(_run_load(arguments.clients, arguments.seconds)))
    else:
        measure_accept(arguments.clients, arguments.seconds, arguments.rounds, arguments.only)


def measure_accept(
    clients: int, seconds: float, rounds: int, only: str | None = None
) -> dict[str, tuple[float, float]]:
    """Print and return medians by name: jobs per second, and CPU milliseconds of the HTTP server per job."""
    modules = {"gateway": ("gateway",), "bare": ("benchmarks.measurements.accept", "--child", "bare")}
    if only:
        modules = {only: modules[only]}
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in modules}
    with start_stack(modules) as running:
        for _ in range(rounds):
            for name, child in running.children.items():
                results[name].append(_run_round(running, child, clients, seconds))
    print(f"{clients} clients, {rounds} rounds of {seconds:g} s\n")
    print("| | jobs/s | spread | CPU ms per job | of Redis |\n|---|---|---|---|---|")
    medians = {}
    for name, measured in results.items():
        rates, costs, redis_costs = zip(*measured, strict=True)
        spread = f"{min(rates):.0f}-{max(rates):.0f}"
        medians[name] = rate, cost = statistics.median(rates), statistics.median(costs)
        print(f"| {name} | {rate:.0f} | {spread} | {cost:.2f} | {statistics.median(redis_costs):.2f} |")
    if not only:
        print(f"\nratio {medians['gateway'][0] / medians['bare'][0]:.2f}")
    return medians


def _run_round(running: Stack, child: Child, clients: int, seconds: float) -> tuple[float, float, float]:
    """Return jobs per second, and CPU milliseconds per job of the child and of Redis."""
    more = ("--clients", str(clients), "--seconds", str(seconds))
    command = (sys.executable, "-m", "benchmarks.measurements.accept", "--child", "load", *more)
    environment = {**os.environ, "BENCH_URL": child.url, "BENCH_KEY": running.key}
    pids = (child.pid, running.server.process.pid)
    before = [cpu_s(pid) for pid in pids]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    spent = [cpu_s(pid) - so_far for pid, so_far in zip(pids, before, strict=True)]
    jobs, took, everything = map(float, done.stdout.split())
    child_ms, redis_ms = (1000 * seconds / everything for seconds in spent)
    return jobs / took, child_ms, redis_ms


async def _run_load(clients: int, seconds: float) -> str:
    """Post one-document jobs on `clients` connections; return jobs while measured, seconds, and all jobs."""
    url = urlsplit(os.environ["BENCH_URL"])
    key = {"X-API-Key": os.environ["BENCH_KEY"]}
    bodies = ({"labels": LABELS, "documents": [{"text": text}]} for text in make_texts(200))
    requests = [encode_post("/v1/jobs", body, key) for body in bodies]
    answered = 0
    end = time.monotonic() + WARM_UP_S + seconds

    async def run_client(number: int) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        while time.monotonic() < end:
            writer.write(requests[(number + answered) % len(requests)])
            await read_response(reader, status=202)
            answered += 1
        writer.close()

    work = asyncio.gather(*(run_client(number) for number in range(clients)))
    await asyncio.sleep(WARM_UP_S)
    began, before = time.monotonic(), answered
    await work
    return f"{answered - before} {time.monotonic() - began} {answered}"


def _serve_bare() -> None:
    """Serve the route to compare with: parse a body, make one Lua call, return an id."""
    app = FastAPI()
    client = redis.asyncio.Redis.from_url(os.environ["GLEANER_REDIS_URL"])
    store = client.register_script(STORE)

    @app.post("/v1/jobs", status_code=202)
    async def submit(job: Job) -> dict[str, str]:
        job_id = os.urandom(13).hex()
        await store(keys=["bench:jobs"], args=[job_id, job.model_dump_json()])
        return {"id": job_id, "status": "queued"}

    server = uvicorn.Server(
        uvicorn.Config(
            app, port=int(os.environ["GLEANER_PORT"]), loop="uvloop", http="httptools", log_level="error"
        )
    )
    probes = ProbeServer(
        "127.0.0.1",
        int(os.environ["GLEANER_METRICS_PORT"]),
        CollectorRegistry(),
        lambda: None,
        lambda: None if server.started else "starting",
    )
    probes.start()
    server.run()


if __name__ == "__main__":
    main()
