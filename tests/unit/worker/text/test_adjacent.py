"""Adjacent spans of a label become one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import Document, DocumentResult, Options, Redact
from jobs.tasks import Tasks
from tests.support.engine import SPLIT, FakeEngine
from worker.protocols import ShardRef, Span
from worker.text.adjacent import merge_adjacent
from worker.text.merging import Findings, merge_windows
from worker.text.spans import select_spans
from worker.text.windows import JobContext, cut_document

PERSON, PLACE = 0, 1
LABELS = {"person": None, "place": None}


def merged(text: str, *spans: Span) -> list[Span]:
    """Merge spans of a text."""
    split = SPLIT(text)
    return sorted(merge_adjacent(spans, text, split.starts, split.ends).spans)


def test_parts_of_an_entity_become_one_with_the_lowest_score() -> None:
    """Three parts with blanks between them, and the neighbours of other labels stay as they are."""
    text = "Ada de Lovelace Paris Rome"
    spans = Span(0, 1, PERSON, 0.9), Span(1, 2, PERSON, 0.6), Span(2, 3, PERSON, 0.8), Span(3, 4, PLACE, 0.7)
    assert merged(text, *spans) == [Span(0, 3, PERSON, 0.6), Span(3, 4, PLACE, 0.7)]


@pytest.mark.parametrize(
    ("gap", "is_merged"),
    [(" ", True), ("  \t", True), ("\n", True), ("\r\n ", True), ("\u3000", True), ("\n\n", False),
     ("\n \n", False), ("\u2029", False), (", ", False), ("-", False), (" and ", False)],
)  # fmt: skip
def test_only_blanks_and_one_line_break_may_be_between(gap: str, is_merged: bool) -> None:
    """A blank line, a comma or a word ends an entity."""
    text = f"Ada{gap}Lovelace"
    last = len(SPLIT(text).words)
    if "-" in gap:
        text, last = "Ada - Lovelace", 3
    spans = merged(text, Span(0, 1, PERSON, 0.9), Span(last - 1, last, PERSON, 0.8))
    assert len(spans) == (1 if is_merged else 2)


def test_nothing_may_be_between_in_texts_without_blanks() -> None:
    """Words that touch, as characters do, are adjacent."""
    assert merged("李。明", Span(0, 1, PERSON, 0.9), Span(1, 2, PERSON, 0.8)) == [Span(0, 2, PERSON, 0.8)]


def test_several_labels_of_a_span_are_merged_together_or_not_at_all() -> None:
    """Otherwise spans of one label would overlap those of another, which `flat` rules out."""
    both = [Span(at, at + 1, label, 0.9) for at in (0, 1) for label in (PERSON, PLACE)]
    assert merged("Ada Lovelace Rome", *both) == [Span(0, 2, PERSON, 0.9), Span(0, 2, PLACE, 0.9)]
    assert merged("Ada Lovelace Rome", *both[:3]) == both[:3]


def test_nested_spans_are_merged_within_the_same_outer_span() -> None:
    """A part inside of another entity does not grow out of it, nor become the same words under another label."""
    inside, outer = Span(1, 2, PERSON, 0.8), Span(0, 2, PLACE, 0.9)
    assert merged("a b c d", outer, inside, Span(2, 3, PERSON, 0.7)) == [outer, inside, Span(2, 3, PERSON, 0.7)]
    parts = Span(0, 1, PERSON, 0.8), Span(1, 2, PERSON, 0.8)
    assert merged("a b c d", outer, *parts) == sorted([outer, *parts])
    assert merged("a b c d", Span(0, 3, PLACE, 0.9), *parts) == [Span(0, 2, PERSON, 0.8), Span(0, 3, PLACE, 0.9)]


SPANS = st.lists(
    st.builds(
        lambda start, length, label, score: Span(start, start + length, label, score / 10),
        st.integers(0, 11), st.integers(1, 5), st.integers(0, 2), st.integers(1, 9),
    ),
    max_size=25,
)  # fmt: skip
WORDS = st.lists(st.sampled_from(["a ", "b", "c\n", "d\n\n", "e, ", "f  "]), min_size=16, max_size=16)


@given(SPANS, WORDS, st.booleans(), st.booleans())
def test_to_merge_again_changes_nothing(spans: list[Span], words: list[str], flat: bool, multi_label: bool) -> None:
    """The same words are covered, rules about overlaps hold as before, and adjacent parts are gone."""
    text = "".join(words)
    starts = [sum(map(len, words[:at])) for at in range(len(words))]
    ends = [start + 1 for start in starts]
    unique = {span[:3]: span for span in spans}
    selected = select_spans(sorted(unique.values(), key=lambda span: -span.score), flat, multi_label)

    once = merge_adjacent(selected, text, starts, ends)

    assert sorted(merge_adjacent(once.spans, text, starts, ends).spans) == sorted(once.spans)
    for label in range(3):
        assert _covered(selected, label) == _covered(once.spans, label)
    by_score = sorted(once.spans, key=lambda span: -span.score)
    assert sorted(select_spans(by_score, flat, multi_label)) == sorted(once.spans)
    assert min((s.score for s in once.spans), default=0) == min((s.score for s in selected), default=0)
    assert {*once.weakest} <= {span[:3] for span in once.spans}
    assert all(part in selected and key[0] <= part.start < part.end <= key[1] for key, part in once.weakest.items())
    if flat and not multi_label:
        ordered = sorted(once.spans)
        gaps = [text[ends[a.end - 1] : starts[b.start]] for a, b in pairwise(ordered) if a.label == b.label]
        assert all(gap.strip() or gap.count("\n") > 1 for gap in gaps)


def _covered(spans: list[Span], label: int) -> set[int]:
    return {at for span in spans if span.label == label for at in range(span.start, span.end)}


class WordFinder(FakeEngine):
    """Finds each capitalised word by itself, as a person, sure of those with many letters."""

    def _entities(self, window):  # type: ignore[no-untyped-def]
        return [
            Span(at, at + 1, 0, 0.5 + len(word) / 100, ((1, 0.1 + len(word) / 100),) if window.explain else ())
            for at, word in enumerate(window.words)
            if word[0].isupper()
        ]


def _result(text: str, options: Options, engine: FakeEngine | None = None) -> DocumentResult:
    engine = engine or WordFinder()
    plan = cut_document(
        Document(0, "0", text), JobContext(ShardRef("job", 0), Tasks(LABELS), options, redact_key=b"key"), engine
    )
    outcomes = [tuple(engine.decode((window,), (window,))[0]) for window in plan.windows]
    return merge_windows(plan, Findings.collect(plan, outcomes), 1)


TEXT = "today Ada Lovelace and Charles Babbage met"


def test_an_option_asks_for_it() -> None:
    """Off by default; a merged entity has the text between its parts, too, in any unit."""
    assert [entity.text for entity in _result(TEXT, Options()).entities] == [
        "Ada",
        "Lovelace",
        "Charles",
        "Babbage",
    ]
    entities = _result("é " + TEXT, Options(merge_adjacent=True, offset_unit="byte")).entities
    assert [(e.start, e.end, e.text) for e in entities] == [(9, 21, "Ada Lovelace"), (26, 41, "Charles Babbage")]
    assert entities[0].score == pytest.approx(0.53)


def test_a_model_may_have_it_as_its_default() -> None:
    """The model decides if the request does not; the request takes precedence."""
    model = WordFinder(replace(FakeEngine.spec, merge_adjacent=True))
    assert len(_result(TEXT, Options(), model).entities) == 2
    assert len(_result(TEXT, Options(merge_adjacent=False), model).entities) == 4
    assert len(_result(TEXT, Options(merge_adjacent=True), model).entities) == 2


def test_an_explanation_is_that_of_the_part_with_the_score() -> None:
    """The runners-up, the window and the confidence belong to the score that is shown."""
    [ada, _] = _result(TEXT, Options(merge_adjacent=True, explain=True)).entities
    assert ada.explain is not None
    assert ada.explain.runners_up == (("place", pytest.approx(0.13)),)


def test_a_merged_entity_is_hidden_as_one() -> None:
    """Its number, mask or token is that of the whole name."""
    options = Options(merge_adjacent=True, redact=Redact(numbered=True))
    result = _result(f"{TEXT}, and Ada Lovelace left", options)
    assert result.redacted_text == "today [PERSON_1] and [PERSON_2] met, and [PERSON_1] left"


def test_a_long_document_is_merged_across_its_windows() -> None:
    """Spans of several windows are merged in the whole text."""
    text = "some words here. " * 60 + "Ada Lovelace. " + "more words there. " * 60
    entities = _result(text, Options(merge_adjacent=True)).entities
    assert [entity.text for entity in entities] == ["Ada Lovelace"]
