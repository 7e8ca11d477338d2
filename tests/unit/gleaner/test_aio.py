"""The asynchronous client: what it does differently from the synchronous one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from gleaner import AsyncClient, TransportError
from gleaner.client import calls

JOB = {"id": "job_1", "status": "succeeded", "counts": {"total": 1, "succeeded": 1}}


class Gateway:
    """Accepts jobs, which end at once, and returns a result per document."""

    def __init__(self) -> None:
        self.documents: dict[str, list[Any]] = {}
        self.bodies: list[bytes] = []
        self.refusals = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        if self.refusals:
            self.refusals -= 1
            raise httpx.ConnectError("refused", request=request)
        if request.method == "POST":
            return httpx.Response(202, json=self._accept(request, body))
        job, _, page = request.url.path.removeprefix("/v1/jobs/").partition("/")
        if not page:
            return httpx.Response(200, json={**JOB, "id": job})
        results = [
            {"index": index, "id": str(index), "status": "succeeded"} for index in range(len(self.documents[job]))
        ]
        return httpx.Response(200, json={"data": results, "next_cursor": None, "complete": True})

    def _accept(self, request: httpx.Request, body: bytes) -> dict[str, Any]:
        self.bodies.append(body)
        if request.headers["content-type"] == "application/x-ndjson":
            documents = [json.loads(line) for line in body.splitlines()[1:]]
        else:
            documents = json.loads(body)["documents"]
        job = f"job_{len(self.documents)}"
        self.documents[job] = documents
        return {**JOB, "id": job}


def run(gateway: Gateway, work: Callable[[AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    """Run work with a client of the gateway."""

    async def main() -> Any:
        async with AsyncClient("http://g", transport=httpx.MockTransport(gateway), **options) as client:
            return await work(client)

    return asyncio.run(main())


async def texts(count: int) -> AsyncIterator[str]:
    """Yield documents as an asynchronous source does."""
    for number in range(count):
        yield f"text {number}"


@pytest.mark.parametrize("source", [texts, lambda count: [f"text {number}" for number in range(count)]])
def test_a_map_reads_both_kinds_of_sources(source: Callable[[int], Any]) -> None:
    """An asynchronous iterable, or an ordinary one; results are numbered over all jobs."""
    gateway = Gateway()

    async def work(client: AsyncClient) -> list[str]:
        return [result.id async for result in client.map(source(300), ["person"])]

    assert run(gateway, work) == [str(number) for number in range(300)]
    assert [len(documents) for documents in gateway.documents.values()] == [256, 44]


def test_a_bad_document_of_an_asynchronous_source_is_named() -> None:
    """Documents are checked when they are reached."""

    async def source() -> AsyncIterator[Any]:
        yield "a"
        yield 7

    async def work(client: AsyncClient) -> None:
        async for _ in client.map(source(), ["person"]):
            pass

    with pytest.raises(TypeError, match="document 1 is of type int"):
        run(Gateway(), work)


def test_a_streamed_body_is_sent_again_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chunks are made for each try, as an asynchronous iterator, which httpx's asynchronous client requires."""
    monkeypatch.setattr(calls, "JSON_DOCUMENTS", 2)
    monkeypatch.setattr("gleaner.client.flows.random.uniform", lambda *_: 0)
    gateway = Gateway()
    gateway.refusals = 1
    job = run(gateway, lambda client: client.submit(["a", "b", "c"], ["person"]))

    assert job.id == "job_0"
    assert [document["text"] for document in gateway.documents["job_0"]] == ["a", "b", "c"]


def test_no_connection_is_an_error_after_the_retries() -> None:
    """With the reason."""
    gateway = Gateway()
    gateway.refusals = 1

    with pytest.raises(TransportError, match="refused"):
        run(gateway, lambda client: client.limits(), retries=0)


def test_a_job_is_refreshed_in_place() -> None:
    """Waiting and results are those of the synchronous job."""

    async def work(client: AsyncClient) -> tuple[str, list[bool]]:
        job = await (await client.submit(["a"], ["person"])).wait()
        await job.refresh()
        return job.status, [result.ok async for result in job.results()]

    assert run(Gateway(), work) == ("succeeded", [True])
