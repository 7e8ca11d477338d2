"""Spans of windows -> the entities of a document."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import (
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
    Options,
)
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import ALL_TASKS, SPEC, FakeEngine
from worker.protocols import Failed, Outcome, Pair, ShardRef, Span, Spans
from worker.text import merging
from worker.text.bounds import Limits
from worker.text.merging import Findings, estimate_bytes, failed_result, merge_windows
from worker.text.windows import CutRules, JobContext, Plan, cut_document

TEXT = "Ada Lovelace met Charles Babbage . " * 12


def cut(text: str = TEXT, options: Options | None = None) -> Plan:
    """Cut a text into windows of few words, without the sentence pass."""
    engine = FakeEngine(spec=replace(SPEC, max_words=24, max_width=4))
    context = JobContext(
        ShardRef("job", 0), Tasks({"person": None, "place": None}), options or Options(), None, 0.5
    )
    return cut_document(Document(0, "0", text), context, engine, CutRules(sentence_pass=False))


def find_names(plan: Plan) -> list[Outcome]:
    """Return every name of each window, with a score that depends on the window."""
    return [
        tuple(
            Span(i, i + 2, 0, 0.6 + number / 1000)
            for i, word in enumerate(window.words[:-1])
            if word in ("Ada", "Charles")
        )
        for number, window in enumerate(plan.windows)
    ]


def test_an_entity_of_several_windows_is_reported_once() -> None:
    """With the best score that it got, at its place in the text."""
    plan = cut()
    assert len(plan.windows) > 2
    result = merge_windows(plan, Findings.collect(plan, find_names(plan)), attempts=1)
    assert [TEXT[entity.start : entity.end] for entity in result.entities] == [
        "Ada Lovelace",
        "Charles Babbage",
    ] * 12
    assert all(entity.text == TEXT[entity.start : entity.end] for entity in result.entities)
    assert (result.windows, result.status) == (len(plan.windows), DocumentStatus.SUCCEEDED)


def test_a_window_that_failed_fails_the_document() -> None:
    """With the first reason; entities of other windows would pass for all of them."""
    plan = cut()
    outcomes = find_names(plan)
    outcomes[1] = Failed(DocumentErrorCode.OUT_OF_MEMORY, "first")
    outcomes[2] = Failed(DocumentErrorCode.INFERENCE_FAILED, "second")
    result = merge_windows(plan, Findings.collect(plan, outcomes), attempts=2)
    assert (result.status, result.entities, result.attempts) == (DocumentStatus.FAILED, (), 2)
    assert result.error == DocumentError(DocumentErrorCode.OUT_OF_MEMORY, "first")


@given(st.lists(st.lists(st.floats(0.5, 1), max_size=8), min_size=1, max_size=30), st.integers(0, 3))
def test_of_too_many_spans_the_best_are_kept(scores: list[list[float]], left_out: int) -> None:
    """In the order of their windows; the number of the others is known."""
    plan = cut("Ada")
    plan = replace(plan, limits=replace(plan.limits, entities=2))
    most = merging.SPANS_PER_ENTITY * 2
    findings = Findings(plan)
    for window in scores:
        findings.add(Spans([Span(n, n + 1, 0, score) for n, score in enumerate(window)], left_out))
    spans = [span for window in findings.spans_by_window() for span in window]
    total = sum(map(len, scores))
    assert findings.left_out == max(0, total - most) + left_out * len(scores)
    best = sorted((score for window in scores for score in window), reverse=True)[:most]
    assert sorted((span.score for span in spans), reverse=True) == best
    assert len(findings.spans_by_window()) == len(scores)


def test_a_document_without_windows_fails_with_its_error() -> None:
    """And has its id and index."""
    plan = cut()
    result = failed_result(plan, DocumentError(DocumentErrorCode.TOO_COSTLY, "why"), attempts=3)
    assert (result.index, result.id, result.status, result.attempts) == (0, "0", DocumentStatus.FAILED, 3)


def test_the_size_of_a_result_grows_with_its_entities() -> None:
    """By at least their texts and labels."""
    plan = cut()
    result = merge_windows(plan, Findings.collect(plan, find_names(plan)), attempts=1)
    shorter = replace(result, entities=result.entities[:1])
    [entity] = shorter.entities
    assert isinstance(entity, Entity)
    assert estimate_bytes(replace(result, entities=())) == 0
    assert estimate_bytes(result) > estimate_bytes(shorter) > len(entity.text) + len(entity.label)


MET = {"met": RelationType()}
TONE = {"tone": Classification(labels={"good": None, "excellent": None})}


def answer(
    text: str, engine: FakeEngine, tasks: Tasks, limits: Limits | None = None, **options: object
) -> DocumentResult:
    """Cut, run and merge a text with the fake model's answers."""
    context = JobContext(ShardRef("job", 0), tasks, Options.model_validate(options))
    plan = cut_document(Document(0, "0", text), context, engine, CutRules(limits=limits or Limits()))
    answers = engine.decode(tuple(plan.windows), tuple(plan.windows))
    outcomes = [spans if isinstance(spans, Spans) else tuple(spans) for spans in answers]
    return merge_windows(plan, Findings.collect(plan, outcomes), attempts=1)


def test_relations_are_between_entities_of_the_result() -> None:
    """By their indexes, in the order in which the entities are sorted; so they are in redacted texts."""
    result = answer("Ada met Bob and Cid", FakeEngine(ALL_TASKS), Tasks({"person": None}, MET, TONE))
    assert [(r.label, r.head, r.tail) for r in result.relations or ()] == [("met", 0, 1), ("met", 1, 2)]
    assert [score.label for score in (result.classifications or {})["tone"]] == ["excellent", "good"]
    redacted = answer(
        "Ada met Bob and Cid", FakeEngine(ALL_TASKS), Tasks({"person": None}, MET), redact=True, explain=True
    )
    assert redacted.redacted_text == "[PERSON] met [PERSON] and [PERSON]"
    assert redacted.relations == result.relations
    assert redacted.classifications is None


@pytest.mark.parametrize("flat", [True, False])
def test_relations_of_a_long_text_are_in_the_documents_words(flat: bool) -> None:
    """Each one that some window has seen, once."""
    text = " ".join(f"Name{number} met someone , then" for number in range(60))
    engine = FakeEngine(replace(ALL_TASKS, max_words=24, max_width=4))
    result = answer(text, engine, Tasks({"person": None}, MET), flat=flat)
    assert result.windows > 2
    assert [entity.text for entity in result.entities] == [f"Name{number}" for number in range(60)]
    assert [relation[1:3] for relation in result.relations or ()] == [(n, n + 1) for n in range(59)]


def test_merged_entities_keep_their_relations() -> None:
    """Those with others: a relation between two parts of an entity is left out."""
    plan = cut_document(
        Document(0, "0", "Ada King met Bob"),
        JobContext(ShardRef("job", 0), Tasks({"person": None}, MET), Options(merge_adjacent=True)),
        FakeEngine(ALL_TASKS),
    )
    ada, king, bob = (0, 1, 0), (1, 2, 0), (3, 4, 0)
    spans = Spans(
        [Span(*key, 0.9) for key in (ada, king, bob)],
        pairs=[Pair(0, ada, king, 0.9), Pair(0, king, bob, 0.8), Pair(0, ada, bob, 0.7)],
    )
    result = merge_windows(plan, Findings.collect(plan, [spans]), attempts=1)
    assert [entity.text for entity in result.entities] == ["Ada King", "Bob"]
    assert result.relations == (("met", 0, 1, 0.8),)


def test_relations_beyond_a_limit_are_left_out() -> None:
    """Those of the lowest scores, with a warning, and those for which a result has no space."""
    engine = FakeEngine(ALL_TASKS)
    tasks = Tasks({"person": None}, MET)
    result = answer("Ada met Bob and Annabel", engine, tasks, Limits(relations=1))
    assert [relation[1:3] for relation in result.relations or ()] == [(1, 2)]
    assert result.warnings == (
        "1 relations with the lowest scores were left out; raise `relation_threshold` to get fewer.",
    )
    small = answer("Ada met Bob and Annabel", engine, tasks, Limits(document_bytes=4 * 80))
    assert len(small.relations or ()) == 1
    assert estimate_bytes(result) > estimate_bytes(replace(result, relations=()))
    assert answer("nobody", engine, tasks).relations == ()
    assert answer("Ada met Bob", engine, Tasks({"person": None})).relations is None
