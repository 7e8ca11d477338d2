"""The gateway as a process under load: memory of big jobs, cost and speed of many waiters.

UPLOAD_MIB=256 and WAITERS=n make them larger; `pytest -s` shows the figures.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import statistics
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import AsyncLedger, Ledger, job_channel
from jobs.redis.clients import connect, connect_async
from tests.support.api import StubWorker
from tests.support.ledger import new_job
from tests.support.processes.gateways import running_gateway

pytestmark = pytest.mark.anyio

MIB = 1 << 20
UPLOAD_MIB = int(os.environ.get("UPLOAD_MIB", "32"))
WAITERS = int(os.environ.get("WAITERS", "1000"))
ALLOWED_MIB = 64
TEXT = 8192


@asynccontextmanager
async def worker_on(ledger_url: str, broker_url: str) -> AsyncIterator[StubWorker]:
    """Return a worker on these servers."""
    store, broker = connect_async(ledger_url, 5, "test"), connect_async(broker_url, 5, "test")
    yield StubWorker(AsyncLedger(store), broker, Codec(), ("gleaner-small",))
    await store.aclose()
    await broker.aclose()


class PeakMemory:
    """The most resident memory that a process has while the block runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most = 0

    @contextmanager
    def watched(self) -> Iterator[PeakMemory]:
        """Look a hundred times a second."""
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(0.01):
                self.most = max(self.most, self.now())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def now(self) -> int:
        """Resident bytes."""
        return int(self._process.memory_info().rss)


def body(mib: int) -> Iterator[bytes]:
    """Yield lines of `mib` MiB, of text that hardly compresses."""
    yield b'{"labels":["Ada"],"options":{"return_text":true}}\n'
    words = random.Random(1)
    for n in range(mib * MIB // TEXT):
        text = "Ada " + base64.b64encode(words.randbytes(TEXT * 3 // 4 - 60)).decode()
        yield json.dumps({"id": f"document-{n}", "text": text}).encode() + b"\n"


@pytest.mark.timeout(120 + 5 * UPLOAD_MIB)
async def test_a_big_job_does_not_fit_into_the_gateway_s_memory(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """Nor need it: lines in and results out pass through, and its memory grows by less than 64 MiB."""
    with running_gateway(tmp_path, ledger_url, broker_url) as (gateway, key):
        headers = {"X-API-Key": key}
        async with worker_on(ledger_url, broker_url) as worker:
            client = httpx.Client(base_url=gateway.url, headers=headers, trust_env=False, timeout=600)
            lines = {"Content-Type": "application/x-ndjson"}
            for _ in range(3):  # every process grows by this once
                await asyncio.to_thread(client.post, "/v1/jobs", content=body(1), headers=lines)
            await worker.run_shards()
            memory = PeakMemory(gateway.pid)
            before = memory.now()
            with memory.watched():
                began = time.monotonic()
                response = await asyncio.to_thread(client.post, "/v1/jobs", content=body(UPLOAD_MIB), headers=lines)
                uploaded = time.monotonic() - began
                assert response.status_code == 202, response.text
                job = response.json()
                await worker.run_shards()
                began = time.monotonic()
                count, size = await asyncio.to_thread(download, client, job["urls"]["results"])
                downloaded = time.monotonic() - began
            await asyncio.to_thread(client.close)

    grown = (memory.most - before) / MIB
    print(  # noqa: T201
        f"{UPLOAD_MIB} MiB in {uploaded:.1f} s, {size / MIB:.0f} MiB out {downloaded:.1f} s, grew {grown:.0f} MiB"
    )
    assert count == job["counts"]["total"] == UPLOAD_MIB * MIB // TEXT
    assert grown < ALLOWED_MIB


def download(client: httpx.Client, url: str) -> tuple[int, int]:
    """Lines and bytes of all results."""
    count = size = 0
    with client.stream("GET", url, headers={"Accept": "application/x-ndjson"}) as response:
        assert response.headers["gleaner-complete"] == "true"
        for chunk in response.iter_bytes():
            count, size = count + chunk.count(b"\n"), size + len(chunk)
    return count, size


class Poll:
    """A long-poll on a raw connection, cheap enough to open a thousand."""

    def __init__(self, port: int, key: str, job_id: str) -> None:
        self._port, self._key, self._job_id = port, key, job_id
        self.answered = 0.0

    async def run(self) -> None:
        """Ask, and note when the answer came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"GET /v1/jobs/{self._job_id}?wait=60 HTTP/1.1\r\nHost: x\r\nX-API-Key: {self._key}\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        self.answered = time.monotonic()
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


async def test_a_thousand_waiters_cost_little_and_hear_at_once(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """A thousand clients, waiting for a job each, cost little work and are answered as their jobs end."""
    unlimited = {"GLEANER_KEY_STREAMS": "0", "GLEANER_TENANT_STREAMS": "0"}
    with running_gateway(tmp_path, ledger_url, broker_url, **unlimited) as (gateway, key):
        store = Ledger(connect(ledger_url, 5, "test"))
        creations = [store.run(ledger.create_job(new_job(_job_id(n), tenant="acme"))) for n in range(WAITERS)]
        polls = [Poll(int(gateway.url.rpartition(":")[2]), key, _job_id(n)) for n in range(WAITERS)]
        tasks = [asyncio.create_task(poll.run()) for poll in polls]
        client = connect(ledger_url, 5, "test")
        names = [job_channel(_job_id(n)) for n in range(WAITERS)]
        while not all(count for _, count in client.pubsub_numsub(*names)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(6.5)  # the first check for changes, which reads every job once, is over

        process = psutil.Process(gateway.pid)
        idle = sum(process.cpu_times()[:2])
        await asyncio.sleep(5)  # a whole round of looking
        idle = (sum(process.cpu_times()[:2]) - idle) / 5
        waits = []
        # Two of a tenant's shards are in flight where no worker is alive: each that ends publishes the next job's.
        ready = deque(message for created in creations for message in created.publish)
        for poll, task in zip(polls[:50], tasks, strict=False):
            began = await asyncio.to_thread(finish, store, ready)
            await task
            waits.append(poll.answered - began)
        began = time.monotonic()
        while ready:
            await asyncio.to_thread(finish, store, ready)
        await asyncio.gather(*tasks)
        burst = time.monotonic() - began
        store._client.close()
        client.close()

    median = statistics.median(waits)
    print(  # noqa: T201
        f"{WAITERS} waiters: idle {idle:.1%} of a core, median {median * 1000:.1f} ms, all answered {burst:.1f} s"
    )
    assert idle < 0.1
    assert median < 0.05


def _job_id(number: int) -> str:
    return f"job_{number:026d}"


def finish(store: Ledger, ready: deque[ledger.Message]) -> float:
    """Run the next job of one document; return when its completion was sent to the store."""
    message = ready.popleft()
    store.run(ledger.claim_shard(message, "n", "w", "rev"))
    began = time.monotonic()
    done = store.run(ledger.complete_shard(message, "n", ledger.ShardResult(b"r", b"", 1, 0, {}, {})))
    assert done.kind == "stored"
    ready.extend(done.publish)
    return began
