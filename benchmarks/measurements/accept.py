"""One-document jobs a second that the gateway accepts, beside a bare FastAPI route that does one Lua call.

`python -m benchmarks.measurements.accept [--seconds S] [--clients N] [--rounds R]`. One process each, the same
server, the same load from a process of its own, turn about; no worker runs.
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

from benchmarks.children import Stack, stack
from benchmarks.load import post, response
from benchmarks.texts import LABELS, documents
from benchmarks.usage import cpu_s
from jobs.observability.probes import ProbeServer
from tests.support.processes.harness import Child

KEEP = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('INCR', KEYS[1] .. ':n')"
WARM_UP_S = 1.0


class Text(BaseModel):
    """A document of the bare route."""

    text: str


class Job(BaseModel):
    """What the bare route takes."""

    labels: list[str]
    documents: list[Text]


def main() -> None:
    """Measure, or be one of the children."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurements.accept", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("gateway", "bare"), help="leave the other one out")
    parser.add_argument("--child", choices=("bare", "load"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "bare":
        _bare()
    elif arguments.child == "load":
        print(asyncio.run(_load(arguments.clients, arguments.seconds)))
    else:
        measure(arguments.clients, arguments.seconds, arguments.rounds, arguments.only)


def measure(clients: int, seconds: float, rounds: int, only: str | None = None) -> dict[str, tuple[float, float]]:
    """Print and return medians by name: jobs a second, and CPU milliseconds of the server for each."""
    modules = {"gateway": ("gateway",), "bare": ("benchmarks.measurements.accept", "--child", "bare")}
    if only:
        modules = {only: modules[only]}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in modules}
    with stack(modules) as running:
        for _ in range(rounds):
            for name, child in running.children.items():
                found[name].append(_round(running, child, clients, seconds))
    print(f"{clients} clients, {rounds} rounds of {seconds:g} s\n")
    print("| | jobs/s | spread | CPU ms a job | of the store |\n|---|---|---|---|---|")
    medians = {}
    for name, measured in found.items():
        rates, costs, stores = zip(*measured, strict=True)
        spread = f"{min(rates):.0f}-{max(rates):.0f}"
        medians[name] = rate, cost = statistics.median(rates), statistics.median(costs)
        print(f"| {name} | {rate:.0f} | {spread} | {cost:.2f} | {statistics.median(stores):.2f} |")
    if not only:
        print(f"\nratio {medians['gateway'][0] / medians['bare'][0]:.2f}")
    return medians


def _round(running: Stack, child: Child, clients: int, seconds: float) -> tuple[float, float, float]:
    """Jobs a second, and CPU milliseconds of the child and of the store for each."""
    more = ("--clients", str(clients), "--seconds", str(seconds))
    command = (sys.executable, "-m", "benchmarks.measurements.accept", "--child", "load", *more)
    environment = {**os.environ, "BENCH_URL": child.url, "BENCH_KEY": running.key}
    pids = (child.pid, running.server.process.pid)
    before = [cpu_s(pid) for pid in pids]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    spent = [cpu_s(pid) - so_far for pid, so_far in zip(pids, before, strict=True)]
    jobs, took, everything = map(float, done.stdout.split())
    own, store = (1000 * seconds / everything for seconds in spent)
    return jobs / took, own, store


async def _load(clients: int, seconds: float) -> str:
    """Post one-document jobs on so many connections; jobs while measured, seconds, all jobs."""
    url = urlsplit(os.environ["BENCH_URL"])
    key = {"X-API-Key": os.environ["BENCH_KEY"]}
    bodies = ({"labels": LABELS, "documents": [{"text": text}]} for text in documents(200))
    requests = [post("/v1/jobs", body, key) for body in bodies]
    answered = 0
    end = time.monotonic() + WARM_UP_S + seconds

    async def client(number: int) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        while time.monotonic() < end:
            writer.write(requests[(number + answered) % len(requests)])
            await response(reader, status=202)
            answered += 1
        writer.close()

    work = asyncio.gather(*(client(number) for number in range(clients)))
    await asyncio.sleep(WARM_UP_S)
    began, before = time.monotonic(), answered
    await work
    return f"{answered - before} {time.monotonic() - began} {answered}"


def _bare() -> None:
    """The route to compare with: a body in, one Lua call, an id out."""
    app = FastAPI()
    store = redis.asyncio.Redis.from_url(os.environ["GLEANER_REDIS_URL"])
    keep = store.register_script(KEEP)

    @app.post("/v1/jobs", status_code=202)
    async def submit(job: Job) -> dict[str, str]:
        job_id = os.urandom(13).hex()
        await keep(keys=["bench:jobs"], args=[job_id, job.model_dump_json()])
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
