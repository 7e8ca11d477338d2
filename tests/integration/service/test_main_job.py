"""The main job through the whole service: HTTP, ledger, queue, model, and back."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from gliner import GLiNER

from gleaner import Client, Result
from tests.support.processes.local_stack import RunningStack
from tests.support.texts import LABEL_SETS, passage

SHIPPED = Path(__file__).parents[3] / "models" / "gleaner-small"
TOLERANCE = 1e-3
FINISH_S = 240.0

pytestmark = pytest.mark.timeout(300)


def documents(count: int, longest: int, seed: int) -> list[dict[str, Any]]:
    """Build texts of mixed length, each with its labels."""
    random = Random(seed)
    rows = []
    for n in range(count):
        labels = list(random.choice(LABEL_SETS))
        rows.append({"id": f"d{n}", "text": passage(random, random.randint(4, longest)), "labels": labels})
    return rows


def spans(result: Result) -> dict[tuple[int, int, str], float]:
    """Return the scores of a result's entities by position and label."""
    return {(e.start, e.end, e.label): e.score for e in result.entities}


@contextmanager
def metric(stack: RunningStack, name: str) -> Iterator[list[float]]:
    """Append a worker metric's growth within the block to the yielded list."""
    grown: list[float] = []
    before = _metric(stack, name)
    yield grown
    grown.append(_metric(stack, name) - before)


def _metric(stack: RunningStack, name: str) -> float:
    [url] = stack.facts["metrics"]["worker"]
    page = urllib.request.urlopen(url, timeout=5).read().decode()
    sample = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(sample[1]) if sample else 0.0


def test_the_service_gives_the_librarys_own_answer(client: Client) -> None:
    """150 texts of mixed length and label sets: same spans and labels, scores within 1e-3, whatever the company."""
    rows = documents(150, 40, seed=3)
    library = GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)
    job = client.submit(rows, ["person"])
    job.wait(timeout=FINISH_S)
    results = list(job.results())

    assert [result.id for result in results] == [row["id"] for row in rows]
    for row, result in zip(rows, results, strict=True):
        expected = {
            (e["start"], e["end"], e["label"]): e["score"]
            for e in library.predict_entities(row["text"], row["labels"], threshold=0.5)
        }
        assert spans(result).keys() == expected.keys()
        assert spans(result) == pytest.approx(expected, abs=TOLERANCE)


def test_one_job_of_a_thousand_documents(client: Client) -> None:
    """It finishes, in order, each document once."""
    rows = documents(1000, 8, seed=4)
    job = client.submit(rows, ["person"])
    job.wait(timeout=FINISH_S)
    assert [result.id for result in job.results()] == [row["id"] for row in rows]
    assert job.counts.succeeded == 1000


def test_many_jobs_of_one_document_share_micro_batches(stack: RunningStack, client: Client) -> None:
    """All finish, each with its own answer, and the model ran far fewer times than there were jobs."""
    rows = documents(300, 6, seed=5)
    with (
        metric(stack, "gleaner_microbatch_windows_count") as passes,
        metric(stack, "gleaner_microbatch_jobs_sum") as jobs_in_passes,
    ):
        finished = _one_document_jobs(client, rows)

    assert finished == [row["id"] for row in rows]
    assert passes[0] < len(rows) / 2
    assert jobs_in_passes[0] / passes[0] > 2


def _one_document_jobs(client: Client, rows: Sequence[dict[str, Any]]) -> list[str]:
    with ThreadPoolExecutor(8) as threads:
        submitted = list(threads.map(lambda row: client.submit([row], ["person"]), rows))
    ids = []
    for job in submitted:
        job.wait(timeout=FINISH_S)
        [result] = job.results()
        assert result.status == "succeeded"
        ids.append(result.id)
    return ids


BAD = [
    pytest.param(b'{"labels": [], "documents": [{"text": "a"}]}', 422, "validation_failed", id="no labels"),
    pytest.param(b'{"labels": ["a"], "documents": []}', 422, "validation_failed", id="no documents"),
    pytest.param(
        b'{"labels": ["a"], "documents": [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]}',
        422,
        "validation_failed",
        id="duplicate ids",
    ),
    pytest.param(b'{"labels": ["a"]', 400, "malformed_json", id="broken JSON"),
    pytest.param(
        b'{"labels": ["a"], "options": {"threshold": NaN}, "documents": [{"text": "a"}]}',
        400,
        "malformed_json",
        id="NaN",
    ),
    pytest.param(
        b'{"labels": ["a"], "documents": [{"text": "a"}], "x": 1}', 422, "validation_failed", id="unknown"
    ),
    pytest.param(
        b'{"labels": ["a"], "documents": [' + b",".join([b'{"text": "a"}'] * 10_001) + b"]}",
        413,
        "too_many_documents",
        id="10,001 documents",
    ),
    pytest.param(
        b'{"model": "no", "labels": ["a"], "documents": [{"text": "a"}]}', 422, "unknown_model", id="model"
    ),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD)
def test_bad_requests_have_their_documented_error(stack: RunningStack, body: bytes, status: int, code: str) -> None:
    """Each is refused with its code, and nothing is a 500."""
    headers = {"Authorization": f"Bearer {stack.key}", "Content-Type": "application/json"}
    answer = httpx.post(f"{stack.url}/v1/jobs", content=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_bad_documents_fail_alone(stack: RunningStack, client: Client) -> None:
    """Empty, broken and huge texts have their own errors; their neighbours have their entities."""
    texts = [
        "Marie Curie lived in Paris.",
        "",
        " \n",
        "\udfffa",
        "a\ud800b",
        "x" * 5_000_000,
        "Ada Lovelace wrote it.",
    ]
    results = client.extract(texts, ["person"])
    codes = [result.error.code if result.error else None for result in results]
    bad = ["empty_text", "empty_text", "invalid_text", "invalid_text", "document_too_large"]
    assert codes == [None, *bad, None]
    assert [entity.text for result in results for entity in result.entities] == ["Marie Curie", "Ada Lovelace"]
