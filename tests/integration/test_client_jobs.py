"""The client's word for what jobs can do besides being run, against a real gateway; nobody works here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import gleaner
from gleaner import AsyncClient, Client, _calls
from tests.support.gateways import running_gateway

Where = tuple[str, str]


@pytest.fixture
def where(ledger_url: str, broker_url: str, tmp_path: Path) -> Iterator[Where]:
    """A running gateway's address and a key."""
    with running_gateway(tmp_path, ledger_url, broker_url, GLEANER_DURABILITY="process") as (gateway, key):
        yield gateway.url, key


def test_list_and_retry_in_both_forms(where: Where) -> None:
    """Jobs newest first over several pages; a retry is a new job, and a second one is refused."""
    with Client(*where) as client:
        made = [client.submit([f"Ada {n}"], ["person"]).id for n in range(5)]
        assert [job.id for job in client.jobs()] == made[::-1]
        assert [job.id for job in client.jobs(limit=2)] == made[:2:-1]
        retried = client.job(made[0]).cancel().retry()
        assert (retried.info.retry_of, client.job(made[0]).info.retried_by) == (made[0], retried.id)
        with pytest.raises(gleaner.Conflict, match="already"):
            client.job(made[0]).retry()
        assert [job.id for job in client.jobs(status="cancelled")] == [made[0]]

    async def again() -> list[str]:
        async with AsyncClient(*where) as client:
            job = await (await client.job(made[1])).cancel()
            return [(await job.retry()).id, *[one.id async for one in client.jobs(limit=3)]]

    retry, *listed = asyncio.run(again())
    assert listed == [retry, retried.id, made[4]]


def test_a_large_job_goes_as_lines(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a JSON body may hold; bad texts fail alone as ever, ids and options are kept."""
    monkeypatch.setattr(_calls, "JSON_DOCUMENTS", 50)
    documents = [{"id": f"d{n}", "text": "a\ud800" if n == 7 else f"Ada {n}\nand so on"} for n in range(200)]
    with Client(*where) as client:
        job = client.submit(
            documents, {"person": "a human"}, threshold=0.3, metadata={"a": "b"}, idempotency_key="k"
        )
        assert (job.counts.total, job.info.metadata) == (200, {"a": "b"})
        assert (
            client.submit(
                documents, {"person": "a human"}, threshold=0.3, metadata={"a": "b"}, idempotency_key="k"
            ).id
            == job.id
        )
        with pytest.raises(gleaner.ValidationError) as refused:
            client.submit([*documents, {"txt": ""}], ["person"])
    assert refused.value.errors[0][0] == "line:202/txt"
