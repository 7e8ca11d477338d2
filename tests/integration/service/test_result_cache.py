"""The result cache with the shipped model: its results are the model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.ledger import Ledger
from jobs.observability.metrics import WorkerMetrics
from jobs.schema import DocumentResult
from tests.support.intake import InProcessWorker, running_worker
from tests.support.ledger import CODEC, MODEL
from worker.model.engine import EngineOptions, load_model
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine, ModelSpec
from worker.shards.result_cache import ResultCache

SHIPPED = Path(__file__).parents[3] / "models" / MODEL
TEXTS = (
    "Ada Lovelace met Charles Babbage in London.",
    "Nothing of note.",
    "Marie Curie left Warsaw for Paris. " * 40,
)
LABELS = {"person": None, "city": "a city or town"}
OPTIONS = {"explain": True, "redact": {"numbered": True}}


def cache_for(spec: ModelSpec, store: Ledger, metrics: WorkerMetrics) -> ResultCache:
    """Create a cache as the worker does."""
    return ResultCache(store, CODEC, 600, secret=b"", model=MODEL, spec=spec, sentence_pass=True, metrics=metrics)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Load the shipped model, exact."""
    return load_model(resolve_model(str(SHIPPED), None, Path("unused")), EngineOptions("cpu", "fp32"))


@pytest.fixture
def worker(ledger_url: str, broker_url: str, engine: Engine) -> Iterator[InProcessWorker]:
    """Run a worker with that model and a cache."""

    def cache(store: Ledger, metrics: WorkerMetrics) -> ResultCache:
        return cache_for(engine.spec, store, metrics)

    with running_worker(ledger_url, broker_url, engine, cache=cache) as running:
        yield running


def ask(worker: InProcessWorker, job: str, **how: Any) -> tuple[DocumentResult, ...]:
    """Run a job; return its results."""
    how = {"labels": LABELS, "options": OPTIONS, **how}
    assert worker.runner.extract_shard(worker.submit(job, *TEXTS, **how)) == "stored"
    return worker.results(job)


def looked_up(worker: InProcessWorker) -> tuple[float, float]:
    """Documents that the cache answered, and those that it did not."""
    hit, miss = (worker.metrics.cached.labels(outcome)._value.get() for outcome in ("hit", "miss"))
    return hit, miss


def test_the_second_job_is_answered_without_the_model(
    worker: InProcessWorker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reasons, redaction and a document of many windows, equal to the last digit of every score."""
    first = ask(worker, "job_1")
    assert first[2].windows > 1
    assert {entity.label for result in first for entity in result.entities} == {"person", "city"}
    assert looked_up(worker) == (0, 3)

    monkeypatch.setattr(engine, "forward", None)
    assert ask(worker, "job_2") == first
    assert looked_up(worker) == (3, 3)


@pytest.mark.parametrize("other", [{"tenant": "t2"}, {"labels": {"person": None}}, {"options": {"threshold": 0.4}}])
def test_another_tenant_or_question_is_the_models(worker: InProcessWorker, other: dict[str, Any]) -> None:
    """Texts of another tenant or with other options go to the model."""
    ask(worker, "job_1")
    ask(worker, "job_2", **other)
    assert looked_up(worker) == (0, 6)


def test_another_revision_answers_anew(worker: InProcessWorker, engine: Engine) -> None:
    """Other weights, other answers."""
    ask(worker, "job_1")
    worker.runner.cache = cache_for(replace(engine.spec, revision="next"), worker.store, worker.metrics)
    ask(worker, "job_2")
    assert looked_up(worker) == (0, 6)
