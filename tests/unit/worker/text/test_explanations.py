from __future__ import annotations

from typing import Any

import pytest

from jobs.schema import Document, Options
from jobs.tasks import Tasks
from tests.conftest import ROOT
from tests.support.engine import FakeEngine, small_engine
from worker.model.sources.resolve import read_calibration
from worker.protocols import Outcome, ShardRef, Span
from worker.text.explanations import check_calibration, estimate_confidence, explain_spans
from worker.text.merging import Findings, merge_windows
from worker.text.spans import SpanCandidate, SpanContext
from worker.text.windows import JobContext, cut_document

LABELS = {"a": None, "b": None, "c": None}


def test_runners_up_come_from_every_window_that_saw_the_words() -> None:
    """The best score of each other label counts, three at most; the window is that of the best score."""
    span = Span(3, 5, 0, 0.9)
    seen = [
        SpanCandidate(span, SpanContext.INSIDE, window=window)
        for span, window in (
            (Span(3, 5, 0, 0.8, ((1, 0.5), (2, 0.1))), (0, 9)),
            (Span(3, 5, 0, 0.9, ((1, 0.3), (3, 0.2))), (2, 7)),
            (Span(3, 5, 4, 0.7), (0, 9)),
            (Span(3, 6, 5, 0.95), (0, 9)),
        )
    ]
    [explanation] = explain_spans([span], seen)
    assert explanation.runners_up == ((4, 0.7), (1, 0.5), (3, 0.2))
    assert explanation.window == (2, 7)


def test_confidence_lies_between_the_knots() -> None:
    """Outside them it is the nearest one's; without any it is unknown."""
    knots = ((0.2, 0.1), (0.4, 0.5), (0.8, 0.9))
    assert [estimate_confidence(score, knots) for score in (0.0, 0.2, 0.3, 0.4, 0.7, 0.8, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.8, 0.9, 0.9]
    )
    assert estimate_confidence(0.5, ()) is None
    assert estimate_confidence(0.5, ((0.4, 0.6),)) == 0.6


@pytest.mark.parametrize("bad", [[[0.5, 1.1]], [[0.5, 0.4], [0.5, 0.6]], [[0.1, 0.6], [0.2, 0.5]], [[0.1]]])
def test_a_calibration_that_makes_no_sense_is_refused(bad: Any) -> None:
    """A model that ships one does not start with it."""
    with pytest.raises(ValueError, match=r"knots|unpack"):
        check_calibration(bad)


def test_the_shipped_calibration_rises() -> None:
    """A higher score of the shipped model is more often right."""
    shipped = read_calibration(ROOT / "models" / "gleaner-small")
    assert (
        estimate_confidence(0.2, shipped) < estimate_confidence(0.5, shipped) < estimate_confidence(0.95, shipped)
    )  # type: ignore[operator]


def explain_text(text: str, engine: FakeEngine, **options: Any) -> Any:
    """Cut and merge a text whose spans have runners-up; return its result."""
    plan = cut_document(
        Document(0, "0", text),
        JobContext(ShardRef("j", 0), Tasks(LABELS), Options(explain=True, **options)),
        engine,
    )
    assert all(window.explain for window in plan.windows)
    outcomes: list[Outcome] = []
    for window in plan.windows:
        spans = engine.decode((window,), (window,))[0]
        runners_up = {span: tuple((at, 0.1) for at in range(3) if at != span.label) for span in spans}
        outcomes.append(tuple(span._replace(runners_up=runners_up[span]) for span in spans))
    return merge_windows(plan, Findings.collect(plan, outcomes), attempts=1)


def test_entities_say_why() -> None:
    """A short text was seen whole; without a calibration the confidence is unknown."""
    result = explain_text("é Ada met", FakeEngine(), offset_unit="byte")
    [entity] = result.to_dict()["entities"]
    assert {runner_up["label"] for runner_up in entity["explain"]["runners_up"]} == set(LABELS) - {entity["label"]}
    assert entity["explain"]["window"] == {"start": 0, "end": 10}
    assert entity["explain"]["confidence"] is None


def test_of_a_long_text_the_window_holds_the_entity() -> None:
    """And is smaller than the text."""
    text = " ".join(f"Ada{n} went home." for n in range(40))
    result = explain_text(text, small_engine())
    assert len(result.entities) == 40
    for entity in result.entities:
        assert entity.explain is not None
        start, end = entity.explain.window
        assert start <= entity.start < entity.end <= end
        assert end - start < len(text)
        assert entity.text in text[start:end]


def test_only_where_asked() -> None:
    """An entity of other requests has no such field."""
    plan = cut_document(Document(0, "0", "Ada met"), JobContext(ShardRef("j", 0), Tasks(LABELS)), FakeEngine())
    result = merge_windows(
        plan, Findings.collect(plan, [tuple(FakeEngine().decode(plan.windows, plan.windows)[0])]), attempts=1
    )
    assert "explain" not in result.to_dict()["entities"][0]
