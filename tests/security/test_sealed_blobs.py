"""Encryption that is required: a blob that somebody without the key wrote to Redis is not read."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from jobs.codec import Codec
from jobs.ledger import associated_data
from jobs.schema import DocumentResult, DocumentStatus
from jobs.shards import encode_results
from tests.support.api import running_api

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("written", [1, 2])
async def test_a_forged_result_is_refused(ledger_url: str, broker_url: str, tmp_path: Path, written: int) -> None:
    """A plain blob in the place of a result is an error of the service; sealed ones of both formats are read."""
    key = base64.b64encode(os.urandom(32)).decode()
    sealing = {"encryption_keys": key, "encryption_required": True, "encryption_format": written}
    async with running_api(ledger_url, broker_url, tmp_path, **sealing) as api:
        job = await api.submit("Ada")
        await api.worker.run_shards()
        url = f"/v1/jobs/{job}/results"
        [result] = (await api.client.get(url)).json()["data"]
        assert result["entities"][0]["text"] == "Ada"
        stored = await api.store.hget("{gleaner}:job:" + job, "opts")
        assert stored is not None
        assert stored[0] == written

        forged = encode_results([DocumentResult(0, "0", DocumentStatus.SUCCEEDED, text="forged")])
        await api.store.hset("{gleaner}:out:" + job, "0", Codec().encode(forged, associated_data("out", job, 0)))
        for accept in ("application/json", "application/x-ndjson", "text/csv"):
            response = await api.client.get(url, headers={"Accept": accept})
            assert (response.status_code, response.json()["code"]) == (500, "internal_error")
            assert "forged" not in response.text
        response = await api.client.get(f"/v1/jobs/{job}/documents/0")
        assert response.status_code == 500


async def test_a_forged_endpoint_is_refused(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """A card in the clear that would send a tenant's webhooks elsewhere is not taken for the tenant's."""
    key = base64.b64encode(os.urandom(32)).decode()
    sealing = {"encryption_keys": key, "encryption_required": True}
    allowed = {"webhook_allow": "127.0.0.0/8", "webhook_allow_http": True}
    async with running_api(ledger_url, broker_url, tmp_path, **sealing, **allowed) as api:
        response = await api.client.post("/v1/webhook-endpoints", json={"url": "http://127.0.0.1:9999/hook"})
        assert response.status_code == 201, response.text
        endpoint = response.json()["id"]
        assert (await api.client.get(f"/v1/webhook-endpoints/{endpoint}")).status_code == 200
        card = b'{"url":"https://evil.example","description":"","secrets":[["whsec_x",null]]}'
        await api.store.hset(
            "{gleaner}:ep:" + endpoint, "sealed", Codec().encode(card, associated_data("ep", endpoint))
        )
        response = await api.client.get(f"/v1/webhook-endpoints/{endpoint}")
        assert response.status_code == 500
        assert "evil" not in response.text
