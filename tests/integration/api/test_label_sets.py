"""Label sets as clients see them: versions, jobs that name them, other tenants; real gateway and ledger."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.schemas.label_sets import LabelSetBody, LabelSetsPage, LabelSetWithLabels
from jobs import ledger
from jobs.ledger import ModelFacts
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio
ALL = "/v1/label-sets"
DRUGS = {"drug": "a medicine by name", "dose": None}
TEXT = "a drug and its dose"
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # pragma: allowlist secret


async def put(api: Api, labels: object, name: str = "drugs", who: str = "submitter") -> tuple[int, int]:
    """Store labels; return the status and the version."""
    response = await api.client.put(f"{ALL}/{name}", json={"labels": labels}, headers=api.as_role(who))
    assert response.status_code in (200, 201), response.text
    return response.status_code, LabelSetBody.model_validate(response.json()).version


async def extract(api: Api, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Run a job of one text; return it, and the labels of its entities."""
    documents = [{"text": TEXT}]
    answer, _ = await asyncio.gather(
        api.client.post("/v1/extract", json={"documents": documents, **fields}), api.worker.run_next_shards()
    )
    assert answer.status_code == 200, answer.text
    entities = answer.json()["results"][0]["entities"]
    return answer.json()["job"], [entity["label"] for entity in entities]


async def refused(api: Api, status: int, code: str, **fields: Any) -> None:
    """Check that a job is refused."""
    response = await api.client.post("/v1/jobs", json={"documents": [{"text": TEXT}], **fields})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


async def test_every_change_makes_a_version_and_all_of_them_are_read(api: Api) -> None:
    """The same labels again make none; ten versions stay."""
    assert [await put(api, DRUGS), await put(api, DRUGS), await put(api, ["drug"])] == [
        (201, 1),
        (200, 1),
        (201, 2),
    ]
    first = (await api.client.get(f"{ALL}/drugs", params={"version": 1})).json()
    assert LabelSetWithLabels.model_validate(first).labels == DRUGS
    assert list(first["labels"]) == list(DRUGS)
    assert (first["version"], first["versions"], first["size"]) == (1, [1, 2], 2)
    latest = (await api.client.get(f"{ALL}/drugs")).json()
    assert (latest["version"], latest["labels"]) == (2, {"drug": None})
    for number in range(9):
        await put(api, [f"label {number}"])
    await put(api, ["city"], "places")
    page = LabelSetsPage.model_validate((await api.client.get(ALL)).json())
    assert [(item.name, item.version, item.versions, item.size) for item in page.data] == [
        ("drugs", 11, list(range(2, 12)), 1),
        ("places", 1, [1], 1),
    ]
    assert (await api.client.get(f"{ALL}/drugs", params={"version": 1})).status_code == 404


async def test_a_job_names_a_set_or_a_version_and_shows_which_it_got(api: Api) -> None:
    """Over JSON, NDJSON and /v1/extract; a list shows it too."""
    await put(api, ["drug"])
    await put(api, DRUGS)
    job, labels = await extract(api, label_set="drugs")
    assert (job["label_set"], labels) == ("drugs@2", ["drug", "dose"])
    job, labels = await extract(api, label_set="drugs@1")
    assert (job["label_set"], labels) == ("drugs@1", ["drug"])

    lines = "\n".join(map(json.dumps, ({"label_set": "drugs"}, {"text": TEXT}, {"text": TEXT, "labels": ["its"]})))
    headers = {"Content-Type": "application/x-ndjson"}
    accepted = (await api.client.post("/v1/jobs", content=lines, headers=headers)).json()
    await api.worker.run_shards()
    results = (await api.client.get(f"/v1/jobs/{accepted['id']}/results")).json()["data"]
    assert [[entity["label"] for entity in result["entities"]] for result in results] == [["drug", "dose"], ["its"]]
    listed = (await api.client.get("/v1/jobs")).json()["data"]
    assert [job["label_set"] for job in listed] == ["drugs@2", "drugs@1", "drugs@2"]
    assert accepted["label_set"] == "drugs@2"


async def test_a_job_keeps_its_labels_whatever_happens_to_the_set(api: Api) -> None:
    """Its retry too; a repeated request gets the first job."""
    await put(api, DRUGS)
    headers = {"Idempotency-Key": "once"}
    body = {"label_set": "drugs", "documents": [{"text": TEXT}, {"text": TEXT}]}
    accepted = (await api.client.post("/v1/jobs", json=body, headers=headers)).json()
    await api.client.post(f"/v1/jobs/{accepted['id']}/cancel")
    await put(api, ["city"])
    assert (await api.client.delete(f"{ALL}/drugs")).status_code == 204
    assert (await api.client.post("/v1/jobs", json=body, headers=headers)).json() == accepted
    retried = (await api.client.post(f"/v1/jobs/{accepted['id']}/retry")).json()
    assert retried["label_set"] == "drugs@1"
    await api.worker.run_shards()
    results = (await api.client.get(f"/v1/jobs/{retried['id']}/results")).json()["data"]
    assert [len(result["entities"]) for result in results] == [2, 2]
    await refused(api, 404, "label_set_not_found", label_set="drugs")
    assert await put(api, DRUGS) == (201, 3)
    await refused(api, 404, "label_set_not_found", label_set="drugs@1")


async def test_a_set_of_another_tenant_does_not_exist(api: Api) -> None:
    """Reading, using, deleting and guessing give the same answers as for a name that nobody has."""
    await put(api, DRUGS, "secret", who="other")

    async def probe(name: str) -> list[tuple[int, str]]:
        responses = [
            await api.client.get(f"{ALL}/{name}"),
            await api.client.get(f"{ALL}/{name}", params={"version": 1}),
            await api.client.delete(f"{ALL}/{name}"),
            *[
                await api.client.post("/v1/jobs", json={"label_set": used, "documents": [{"text": TEXT}]})
                for used in (name, f"{name}@1")
            ],
        ]
        return [(response.status_code, response.json()["detail"].replace(name, "…")) for response in responses]

    assert await probe("secret") == await probe("nobody")
    assert {status for status, _ in await probe("secret")} == {404}
    assert (await api.client.get(ALL)).json()["data"] == []
    assert await put(api, ["mine"], "secret") == (201, 1)
    theirs = await api.client.get(f"{ALL}/secret", headers=api.as_role("other"))
    assert theirs.json()["labels"] == DRUGS
    for name in ("umbrella:secret", "..%2Fsecret", "secret@1"):
        assert (await api.client.get(f"{ALL}/{name}")).status_code in (404, 422)


async def test_writers_at_the_same_time_make_a_version_each(api: Api) -> None:
    """None is lost, and writers of the same labels share one."""
    writers = [put(api, [f"label {number % 8}"]) for number in range(16)]
    outcomes = await asyncio.gather(*writers)
    versions = {number: {outcomes[number], outcomes[number + 8]} for number in range(8)}
    numbers = sorted({version for status, version in outcomes if status == 201})
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 8
    for number in range(8):
        _, version = max(versions[number], key=lambda outcome: outcome[1])
        if version > len(numbers) - 10:
            read = await api.client.get(f"{ALL}/drugs", params={"version": version})
            assert list(read.json()["labels"]) == [f"label {number}"]


async def test_a_job_may_use_as_many_labels_as_its_model_announces(api: Api) -> None:
    """A set of 1,500 is what bi-encoders take, and not a label more than they say."""
    facts = ModelFacts(max_labels=1500)
    await api.worker.store.run(ledger.announce_worker("gleaner-small", "w", 1, "rev-1", facts))
    labels: dict[str, str | None] = {f"label {number}": "a description of it" for number in range(1498)}
    await put(api, {**labels, **DRUGS}, "many")
    job, entity_labels = await extract(api, label_set="many")
    assert (job["label_set"], entity_labels) == ("many@1", ["drug", "dose"])
    await put(api, {**labels, **DRUGS, "one more": None}, "many")
    await refused(api, 422, "validation_failed", label_set="many")


async def test_the_bounds_of_a_set_and_of_a_tenant(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """Labels, bytes of a body, stored bytes, sets; deleting one makes room."""
    async with running_api(ledger_url, broker_url, tmp_path, tenant_max_stored_bytes=100_000) as api:
        many = {f"label {number}": f"number {number}" for number in range(2000)}
        assert await put(api, many) == (201, 1)
        await refused(api, 422, "validation_failed", label_set="drugs")  # this model takes a hundred
        bodies: list[tuple[Any, str]] = [
            ({"labels": [f"label {number}" for number in range(5001)]}, "validation_failed"),
            ({"labels": ["a", "A\u00ad", "a"]}, "validation_failed"),
            ({"labels": {"a": "x" * (1 << 20)}}, "payload_too_large"),
            ({"labels": {"a": "x" * 2000}}, "validation_failed"),
            ({}, "validation_failed"),
        ]
        for body, code in bodies:
            response = await api.client.put(f"{ALL}/other", json=body)
            assert response.json()["code"] == code, response.text
        noise = {f"{number}": f"{number * 7919 % 104_729**3:x}" * 60 for number in range(900)}
        used = (await api.client.get("/v1/limits")).json()["stored"]["bytes"]
        statuses = []
        for number in range(20):
            labels = {f"{number} {label}": description for label, description in noise.items()}
            statuses.append((await api.client.put(f"{ALL}/set{number}", json={"labels": labels})).status_code)
        assert (statuses[0], statuses[-1]) == (201, 429)
        for number in range(statuses.count(201)):
            assert (await api.client.delete(f"{ALL}/set{number}")).status_code == 204
        assert (await api.client.get("/v1/limits")).json()["stored"]["bytes"] == used


async def test_nothing_of_a_set_but_its_name_is_readable_in_the_store(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """With encryption keys; a blob that is moved to another version is not read."""
    async with running_api(ledger_url, broker_url, tmp_path, encryption_keys=[KEY]) as api:
        await put(api, DRUGS)
        await put(api, ["city"])
        record = await api.store.hgetall("{gleaner}:lset:acme:drugs")
        assert not any(word in b"".join(record.values()) for word in (b"medicine", b"dose", b"city"))
        await api.store.hset("{gleaner}:lset:acme:drugs", "2", record[b"1"])
        assert (await api.client.get(f"{ALL}/drugs")).status_code == 500
        assert (await api.client.get(f"{ALL}/drugs", params={"version": 1})).json()["labels"] == DRUGS
