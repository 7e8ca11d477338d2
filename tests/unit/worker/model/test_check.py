"""A model against its own library: equal, different, or not compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.tasks import Task
from tests.conftest import Checkpoint
from tests.support.engine import FakeEngine
from tests.support.families import Family
from worker.model.check import Comparison, Verdict, check_model, compare_entities
from worker.model.engine import EngineOptions
from worker.model.sources.resolve import resolve_model


def make_verdict(*comparisons: Comparison) -> Verdict:
    """Return a verdict in 32 bits."""
    return Verdict("torch fp32", (Task.ENTITIES,), 1e-3, comparisons, ())


@pytest.mark.parametrize(
    ("comparisons", "reason"),
    [
        ([Comparison("a", 1, 1e-6, 1e-4), Comparison("b", 0, 0.0, 0.0)], None),
        ([Comparison("a", 1, 0.0, 0.25)], "by up to 0.2500; 0.001 is allowed"),
        ([Comparison("a", 1, 0.5, 0.25)], "by up to 0.5000"),
        ([Comparison("a", 0, 0.0, 0.0)], "nothing was compared"),
        ([Comparison("a", 0, 0.4, 0.0)], "by up to 0.4000"),
        ([], "cannot be compared"),
    ],
)
def test_only_equal_answers_pass(comparisons: list[Comparison], reason: str | None) -> None:
    """Alone and in company; a model that was compared in nothing does not pass."""
    actual = make_verdict(*comparisons).reason
    assert actual == reason if reason is None else reason in (actual or "")


class EmptyLibrary:
    """Finds nothing."""

    def predict_entities(self, _text: str, _labels: list[str], **_options: Any) -> list[dict[str, Any]]:
        """Return no entity."""
        return []


def test_entities_that_the_library_lacks_are_differences() -> None:
    """The fake engine's scores are 0.6 at least, the library's below 0.5; texts without capitals agree."""
    comparisons = compare_entities(FakeEngine(), EmptyLibrary())
    german = next(item for item in comparisons if "Deutsche Bank" in item.text)
    assert (german.entities, german.alone >= 0.1, german.in_company) == (0, True, german.alone)
    assert next(item for item in comparisons if "北京" in item.text).alone == 0.0


def test_a_model_equals_its_library(checkpoint: Checkpoint) -> None:
    """Random weights, in several scripts."""
    source = resolve_model(str(checkpoint(Family())), None, Path("unused"))
    verdict = check_model(source, EngineOptions("cpu", "fp32", "torch"))
    assert (verdict.reason, verdict.runtime, verdict.not_compared) == (None, "torch fp32", ())
    assert sum(comparison.entities > 0 for comparison in verdict.comparisons) > 15
