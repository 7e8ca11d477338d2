"""Labels that need many passes over a text count in quotas, estimates and scaling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.api import running_api

pytestmark = pytest.mark.anyio
LABELS = [f"{at} is the name of one kind of thing, of which there are {at * at} more, or so" for at in range(60)]
TEXT = "a " * 2000


@pytest.mark.parametrize("way", ["json", "own labels", "lines", "retry"])
async def test_many_long_labels_cost_many_passes(
    ledger_url: str, broker_url: str, tmp_path: Path, way: str
) -> None:
    """A job's usage is its text however it was submitted; its open cost, and the refused one, is its passes."""
    head = {"labels": ["person"] if way == "own labels" else LABELS}
    document = {"text": TEXT, **({"labels": LABELS} if way == "own labels" else {})}
    async with running_api(ledger_url, broker_url, tmp_path, tenant_max_open_characters=30_000) as api:

        async def submit() -> tuple[int, dict[str, object]]:
            if way == "lines":
                body = "\n".join(map(json.dumps, (head, document)))
                lines = {"Content-Type": "application/x-ndjson"}
                response = await api.client.post("/v1/jobs", content=body, headers=lines)
            else:
                response = await api.client.post("/v1/jobs", json={**head, "documents": [document]})
            return response.status_code, response.json()

        status, job = await submit()
        if way == "retry":
            await api.client.post(f"/v1/jobs/{job['id']}/cancel")
            again = await api.client.post(f"/v1/jobs/{job['id']}/retry")
            status, job = again.status_code, again.json()
        assert (status, job["usage"]["characters"]) == (202, len(TEXT))  # type: ignore[index]
        answer = await api.client.get("/v1/queue", headers=api.as_role("admin"))
        assert 4 * len(TEXT) <= answer.json()["data"][0]["open_characters"] <= 10 * len(TEXT)
        status, refused = await submit()
        assert (status, refused["code"]) == (429, "quota_exceeded")
        await api.client.post(f"/v1/jobs/{job['id']}/cancel")
        answer = await api.client.get("/v1/queue", headers=api.as_role("admin"))
        assert answer.json()["data"][0]["open_characters"] == 0
