"""A name whose jobs are split over two models: through the whole API, on a real ledger and queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.routes.models import ModelsPage
from jobs import naming
from jobs.routing import Models
from jobs.schema import Priority
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

EVEN = "base=stable:1|canary:1"
ACME, UMBRELLA = (Models.parse(EVEN).choose_model("base", tenant) for tenant in ("acme", "umbrella"))
BODY = {"model": "base", "labels": ["Ada"], "documents": [{"text": "Ada"}, {"text": ""}]}


async def _post(api: Api, path: str, who: str = "submitter", **headers: str) -> dict[str, Any]:
    response = await api.client.post(path, json=BODY, headers=api.as_role(who) | headers)
    assert response.status_code in (200, 202), response.text
    body: dict[str, Any] = response.json()
    return body


async def test_tenants_stay_with_their_model(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """Every way in goes to the tenant's model, the job says which; the name is the default like any other."""
    assert {ACME, UMBRELLA} == {"stable", "canary"}
    async with running_api(ledger_url, broker_url, tmp_path, models=(EVEN, "gleaner-small")) as api:
        for who, model in (("submitter", ACME), ("other", UMBRELLA), ("submitter", ACME)):
            assert (await _post(api, "/v1/jobs", who))["model"] == model
        lines = "\n".join([json.dumps({"labels": ["Ada"]}), json.dumps({"text": "Ada"})])
        for who, model in (("submitter", ACME), ("other", UMBRELLA)):
            sent = await api.client.post(
                "/v1/jobs", content=lines, headers=api.as_role(who) | {"Content-Type": "application/x-ndjson"}
            )
            assert sent.json()["model"] == model
        assert {message.queue for message in await api.worker.take_messages()} == {
            naming.queue_name(model, Priority.STANDARD) for model in ("stable", "canary")
        }
        refused = await api.client.post("/v1/jobs", json=BODY | {"model": "canary"})
        assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")


async def test_models_tells_the_split_and_the_callers_side(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """/v1/models shows the name, its models with their weights, and which one runs the caller's jobs."""
    async with running_api(ledger_url, broker_url, tmp_path, models=("gleaner-small", EVEN)) as api:
        await _post(api, "/v1/jobs")
        for who, model, open_jobs in (("submitter", ACME, 1), ("other", UMBRELLA, 0)):
            page = ModelsPage.model_validate((await api.client.get("/v1/models", headers=api.as_role(who))).json())
            plain, split = page.data
            assert (plain.name, plain.model, plain.split, plain.default) == ("gleaner-small",) * 2 + ([], True)
            assert (split.name, split.model, split.default, split.open_jobs) == ("base", model, False, open_jobs)
            assert [(share.model, share.weight) for share in split.split] == [("stable", 1), ("canary", 1)]
        queue = (await api.client.get("/v1/queue", headers=api.as_role("admin"))).json()
        assert [backlog["model"] for backlog in queue["data"]] == ["gleaner-small", "stable", "canary"]


@pytest.mark.parametrize("roll_back", [{"canary": 1, "stable": 0}, {"canary": 0, "stable": 1}])
async def test_what_was_accepted_keeps_its_model(
    ledger_url: str, broker_url: str, tmp_path: Path, roll_back: dict[str, int]
) -> None:
    """New weights are for new jobs: a retry runs on the model that ran, a replay is the first answer."""
    async with running_api(ledger_url, broker_url, tmp_path, models=(EVEN,)) as api:
        first = await _post(api, "/v1/jobs", **{"Idempotency-Key": "k"})
        await api.worker.run_shards()
        assert (await api.get_job(first["id"]))["status"] == "partially_succeeded"
    away = next(model for model in roll_back if model != ACME)
    shares = "|".join(f"{model}:{int(model == away)}" for model in roll_back)
    (tmp_path / "later").mkdir()
    async with running_api(ledger_url, broker_url, tmp_path / "later", models=(f"base={shares}",)) as api:
        assert (await _post(api, "/v1/jobs", **{"Idempotency-Key": "k"})) == first
        assert (await _post(api, "/v1/jobs"))["model"] == away
        again = await _post(api, f"/v1/jobs/{first['id']}/retry")
        assert (again["model"], again["retry_of"]) == (ACME, first["id"])


async def test_extract_goes_to_the_tenants_model(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """The answer of /v1/extract, too, says which model it was."""
    async with running_api(ledger_url, broker_url, tmp_path, models=(EVEN,), extract_wait_s=0.05) as api:
        assert (await _post(api, "/v1/extract", "other"))["model"] == UMBRELLA
