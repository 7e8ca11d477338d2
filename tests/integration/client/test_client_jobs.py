"""The client's word for what jobs can do besides being run, against a real gateway; nobody works here."""

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
            made = client.webhooks.create(receiver, events=["job.failed"])
            assert client.webhooks.get(made.id) == client.webhooks.list()[0] == replace(made, secret=None)
            assert client.webhooks.disable(made.id).status == "disabled"
            with pytest.raises(gleaner.Conflict, match="endpoint_disabled"):
                client.webhooks.recover(made.id, datetime.now(UTC) - timedelta(hours=1))
            assert client.webhooks.enable(made.id).status == "active"
            assert client.webhooks.rotate(made.id) != made.secret
            assert list(client.webhooks.deliveries(made.id)) == []
            with pytest.raises(gleaner.NotFound):
                client.webhooks.redeliver("dlv_none")

        async def again() -> None:
            async with AsyncClient(gateway.url, key) as client:
                assert (await client.webhooks.disable(made.id)).disabled_reason == "by_owner"
                assert (await client.webhooks.enable(made.id)).status == "active"
                assert (await client.webhooks.test(made.id))["delivered"] is False
                assert await client.webhooks.recover(made.id, datetime.now(UTC) - timedelta(hours=1)) == 0
                assert [each async for each in client.webhooks.deliveries(made.id, limit=3)] == []
                assert await client.webhooks.rotate(made.id) != made.secret
                other = await client.webhooks.create(f"{receiver}other")
                assert [each.id for each in await client.webhooks.list()] == [made.id, other.id]
                await client.webhooks.delete(made.id)
                with pytest.raises(gleaner.NotFound):
                    await client.webhooks.get(made.id)
                assert (await client.limits()).tenant == "acme"

        asyncio.run(again())
