"""Jobs that ask for entities, relations and classifications, from submission to results in every form."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import pytest

from gateway.schemas.results import Extraction, ResultBody
from jobs import ledger
from jobs.ledger import ModelFacts
from jobs.tasks import Task
from tests.support.api import Api

pytestmark = pytest.mark.anyio

ASKED: dict[str, Any] = {
    "labels": {"Ada": "a person", "Acme": None},
    "relations": {"works for": {"head": ["Ada"], "tail": ["Acme"]}},
    "classifications": {"topic": ["sport", "science"]},
}
DOCUMENTS: list[dict[str, Any]] = [
    {"text": "Ada does science at Acme."},
    {"text": "Acme hired Ada.", "relations": [], "classifications": {"verb": ["sold", "hired"]}},
]
ENTITIES = [("Ada", 0), ("Acme", 20)]


async def read_results(api: Api, job_id: str) -> list[dict[str, Any]]:
    """Run the job; return its results, which are as documented."""
    await api.worker.run_shards()
    response = await api.client.get(f"/v1/jobs/{job_id}/results")
    results: list[dict[str, Any]] = response.json()["data"]
    for result in results:
        ResultBody.model_validate(result)
    return results


def check_results(results: list[dict[str, Any]]) -> None:
    """Check the answers to what the job asks, and to what its second document asks instead."""
    first, second = results
    assert first["relations"] == [{"label": "works for", "head": 0, "tail": 1, "score": 0.8}]
    assert [(entity["label"], entity["start"]) for entity in first["entities"]] == ENTITIES
    assert first["classifications"] == {
        "topic": [{"label": "science", "score": 0.9}, {"label": "sport", "score": 0.1}]
    }
    assert "relations" not in second
    assert [score["label"] for score in second["classifications"]["verb"]] == ["hired", "sold"]


@pytest.mark.parametrize("form", ["json", "ndjson"])
async def test_a_job_gets_the_answers_to_all_its_questions(api: Api, form: str) -> None:
    """And so does its retry; those of a document replace the job's."""
    if form == "json":
        response = await api.client.post("/v1/jobs", json={**ASKED, "documents": DOCUMENTS})
    else:
        lines = "\n".join(map(json.dumps, [ASKED, *DOCUMENTS]))
        headers = {"Content-Type": "application/x-ndjson"}
        response = await api.client.post("/v1/jobs", content=lines, headers=headers)
    assert response.status_code == 202, response.text
    job_id = response.json()["id"]
    assert (await api.client.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    retry = await api.client.post(f"/v1/jobs/{job_id}/retry")
    check_results(await read_results(api, retry.json()["id"]))


async def test_results_of_all_tasks_have_every_form(api: Api) -> None:
    """Lines, single documents and one table of CSV for each task; that of entities is the default."""
    response = await api.client.post("/v1/jobs", json={**ASKED, "documents": DOCUMENTS})
    url = f"/v1/jobs/{response.json()['id']}"
    results = await read_results(api, response.json()["id"])
    lines = await api.client.get(f"{url}/results", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in lines.text.splitlines()] == results
    assert (await api.client.get(f"{url}/documents/0")).json() == results[0]

    async def read_csv(**query: str) -> list[dict[str, str]]:
        response = await api.client.get(f"{url}/results", params=query, headers={"Accept": "text/csv"})
        return list(csv.DictReader(io.StringIO(response.text, newline="")))

    assert [row["label"] for row in await read_csv()] == ["Ada", "Acme", "Acme", "Ada"]
    assert await read_csv(table="entities") == await read_csv()
    first, second = await read_csv(table="relations")
    assert (first["relation"], first["head_text"], first["tail_text"]) == ("works for", "Ada", "Acme")
    assert (second["index"], second["relation"]) == ("1", "")
    classes = await read_csv(table="classifications")
    assert [row["label"] for row in classes] == ["science", "sport", "hired", "sold"]
    wrong = await api.client.get(f"{url}/results", params={"table": "words"}, headers={"Accept": "text/csv"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "query:table")


async def test_a_text_may_only_be_classified_and_in_one_call(api: Api) -> None:
    """Without labels a result has no entities."""
    body = {"classifications": ASKED["classifications"], "documents": [{"text": "Ada does science."}]}
    response, _ = await asyncio.gather(api.client.post("/v1/extract", json=body), api.worker.run_next_shards())
    assert response.status_code == 200, response.text
    [result] = Extraction.model_validate(response.json()).results
    assert (result.entities, result.relations) == ([], None)
    assert result.classifications is not None
    assert result.classifications["topic"][0].label == "science"


async def test_tasks_that_a_model_cannot_do_are_refused(api: Api) -> None:
    """Once a worker has announced its tasks; entities alone are accepted as ever."""
    facts = ModelFacts(tasks=(Task.ENTITIES,), max_labels=150)
    await api.worker.store.run(ledger.announce_worker("gleaner-small", "w", 1, "rev", facts))
    response = await api.client.post("/v1/jobs", json={**ASKED, "documents": DOCUMENTS})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "unsupported_task")
    assert problem["detail"] == "the model gleaner-small can only do entities"
    assert [error["pointer"] for error in problem["errors"]] == [
        "/relations", "/classifications", "/documents/1/classifications",
    ]  # fmt: skip
    await api.submit("Ada", labels=[f"label {n}" for n in range(150)])
    [model] = (await api.client.get("/v1/models")).json()["data"]
    assert (model["tasks"], model["limits"]["labels"]) == (["entities"], 150)
