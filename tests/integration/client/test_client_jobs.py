"""The client's methods for jobs, in addition to running them, against a real gateway without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import gleaner
from gleaner import AsyncClient, Client
from gleaner.client import calls
from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import free_port

Where = tuple[str, str]


@pytest.fixture
def where(ledger_url: str, broker_url: str, tmp_path: Path) -> Iterator[Where]:
    """Run a gateway; return its address and a key."""
    with running_gateway(tmp_path, ledger_url, broker_url, GLEANER_DURABILITY="process") as (gateway, key):
        yield gateway.url, key


def test_list_and_retry_in_both_forms(where: Where) -> None:
    """Jobs newest first over several pages; a retry is a new job, and a second one is refused."""
    with Client(*where) as client:
        ids = [client.submit([f"Ada {n}"], ["person"]).id for n in range(5)]
        assert [job.id for job in client.jobs()] == ids[::-1]
        assert [job.id for job in client.jobs(limit=2)] == ids[:2:-1]
        retried = client.job(ids[0]).cancel().retry()
        assert (retried.info.retry_of, client.job(ids[0]).info.retried_by) == (ids[0], retried.id)
        with pytest.raises(gleaner.Conflict, match="already"):
            client.job(ids[0]).retry()
        assert [job.id for job in client.jobs(status="cancelled")] == [ids[0]]

    async def again() -> list[str]:
        async with AsyncClient(*where) as client:
            job = await (await client.job(ids[1])).cancel()
            return [(await job.retry()).id, *[listed_job.id async for listed_job in client.jobs(limit=3)]]

    retry, *listed = asyncio.run(again())
    assert listed == [retry, retried.id, ids[4]]


def test_a_large_job_goes_as_lines(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a JSON body may hold; bad texts fail alone as ever, ids and options are kept."""
    monkeypatch.setattr(calls, "JSON_DOCUMENTS", 50)
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

    async def again() -> int:
        async with AsyncClient(*where) as client:
            return (await client.submit(documents, {"person": "a human"})).counts.total

    assert asyncio.run(again()) == 200


def test_webhook_endpoints_in_both_forms(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """Registered, looked at, disabled, enabled, rotated, with nothing delivered yet, and removed."""
    receiver = f"http://127.0.0.1:{free_port()}/"
    allowed = {"GLEANER_WEBHOOK_ALLOW": "127.0.0.0/8", "GLEANER_WEBHOOK_ALLOW_HTTP": "true"}
    with running_gateway(tmp_path, ledger_url, broker_url, **allowed) as (gateway, key):
        with Client(gateway.url, key) as client:
            endpoint = client.webhooks.create(receiver, events=["job.failed"])
            assert client.webhooks.get(endpoint.id) == client.webhooks.list()[0] == replace(endpoint, secret=None)
            assert client.webhooks.disable(endpoint.id).status == "disabled"
            with pytest.raises(gleaner.Conflict, match="endpoint_disabled"):
                client.webhooks.recover(endpoint.id, datetime.now(UTC) - timedelta(hours=1))
            assert client.webhooks.enable(endpoint.id).status == "active"
            assert client.webhooks.rotate(endpoint.id) != endpoint.secret
            assert list(client.webhooks.deliveries(endpoint.id)) == []
            with pytest.raises(gleaner.NotFound):
                client.webhooks.redeliver("dlv_none")

        async def again() -> None:
            async with AsyncClient(gateway.url, key) as client:
                assert (await client.webhooks.disable(endpoint.id)).disabled_reason == "by_owner"
                assert (await client.webhooks.enable(endpoint.id)).status == "active"
                assert (await client.webhooks.test(endpoint.id))["delivered"] is False
                assert await client.webhooks.recover(endpoint.id, datetime.now(UTC) - timedelta(hours=1)) == 0
                assert [entry async for entry in client.webhooks.deliveries(endpoint.id, limit=3)] == []
                assert await client.webhooks.rotate(endpoint.id) != endpoint.secret
                other = await client.webhooks.create(f"{receiver}other")
                assert [entry.id for entry in await client.webhooks.list()] == [endpoint.id, other.id]
                await client.webhooks.delete(endpoint.id)
                with pytest.raises(gleaner.NotFound):
                    await client.webhooks.get(endpoint.id)
                assert (await client.limits()).tenant == "acme"

        asyncio.run(again())
