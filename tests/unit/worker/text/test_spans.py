from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.protocols import Span
from worker.text.spans import SpanCandidate, SpanContext, combine_candidates, select_spans


def quadratic(ranked: list[Span], flat: bool, multi_label: bool) -> list[Span]:
    """Apply the rule as gliner states it: compare with all spans selected so far."""
    selected: list[Span] = []
    for span in ranked:
        if not any(_clash(span, other, flat, multi_label) for other in selected):
            selected.append(span)
    return sorted(selected, key=lambda span: span.start)


def _clash(first: Span, second: Span, flat: bool, multi_label: bool) -> bool:
    if (first.start, first.end) == (second.start, second.end):
        return not multi_label
    if first.end <= second.start or second.end <= first.start:
        return False
    nested = (first.start <= second.start and second.end <= first.end) or (
        second.start <= first.start and first.end <= second.end
    )
    return flat or not nested


SPANS = st.builds(
    lambda start, width, label, score: Span(start, start + width, label, score),
    st.integers(0, 12),
    st.integers(1, 6),
    st.integers(0, 2),
    st.floats(0, 1),
)


@given(st.lists(SPANS, max_size=30, unique_by=lambda s: (s.start, s.end, s.label)), st.booleans(), st.booleans())
def test_choice_is_gliners(spans: list[Span], flat: bool, multi_label: bool) -> None:
    """The linear-time choice keeps exactly the spans that gliner's pairwise rule keeps."""
    ranked = sorted(spans, key=lambda span: -span.score)

    assert quadratic(ranked, flat, multi_label) == select_spans(ranked, flat, multi_label)


def test_threshold_zero_takes_no_hours() -> None:
    """A quarter of a million candidates are settled at once (gliner's pairwise rule would take half an hour)."""
    spans = [
        Span(start, start + width, label, 1 / (1 + start + width + label))
        for start in range(256)
        for width in range(1, 13)
        for label in range(80)
    ]

    selected = select_spans(sorted(spans, key=lambda span: -span.score), flat=False, multi_label=False)

    assert len({(s.start, s.end) for s in selected}) == len(selected)


def test_the_whole_span_wins_over_the_cut_one() -> None:
    """A span that ends at its window's edge loses to one that runs on over it, whatever the scores."""
    cut = SpanCandidate(Span(8, 10, 0, 0.99), SpanContext.AT_EDGE, cut_right=True)
    whole = SpanCandidate(Span(8, 12, 0, 0.51), SpanContext.INSIDE)

    assert [whole.span] == combine_candidates([cut, whole], flat=True, multi_label=False)


def test_an_edge_span_loses_to_one_seen_in_context() -> None:
    """If two windows disagree, the one that did not cut there wins."""
    edge = SpanCandidate(Span(9, 10, 0, 0.99), SpanContext.AT_EDGE, cut_right=True)
    inside = SpanCandidate(Span(8, 10, 0, 0.6), SpanContext.INSIDE)

    assert [inside.span] == combine_candidates([edge, inside], flat=True, multi_label=False)


def test_a_span_found_twice_keeps_its_best_score() -> None:
    """Overlapping windows see the same span with slightly different scores."""
    twice = [
        SpanCandidate(Span(1, 2, 0, 0.7), SpanContext.INSIDE),
        SpanCandidate(Span(1, 2, 0, 0.8), SpanContext.AT_EDGE),
    ]

    assert [Span(1, 2, 0, 0.8)] == combine_candidates(twice, flat=True, multi_label=False)


def test_a_span_over_two_sentences_spoils_neither() -> None:
    """A person "Tim Cook. Ada Lovelace" does not remove the two that their sentences have."""
    cook = SpanCandidate(Span(3, 5, 0, 0.9), SpanContext.SENTENCE)
    lovelace = SpanCandidate(Span(6, 8, 0, 0.9), SpanContext.SENTENCE, cut_left=True)
    both = SpanCandidate(Span(3, 8, 0, 0.99), SpanContext.INSIDE)

    assert [cook.span, lovelace.span] == combine_candidates([both, lovelace, cook], flat=True, multi_label=False)


def test_a_wrongly_cut_sentence_is_mended() -> None:
    """A better span over a full stop that ended no sentence replaces the half of it."""
    half = SpanCandidate(Span(6, 7, 0, 0.7), SpanContext.SENTENCE, cut_left=True)
    whole = SpanCandidate(Span(4, 7, 0, 0.9), SpanContext.INSIDE)

    assert [whole.span] == combine_candidates([half, whole], flat=True, multi_label=False)


def test_nested_spans_of_other_labels_are_not_cut() -> None:
    """Without flat, only a longer span of the same label shows that a span was cut."""
    part = SpanCandidate(Span(2, 4, 1, 0.9), SpanContext.AT_EDGE, cut_right=True)
    longer = SpanCandidate(Span(2, 6, 0, 0.9), SpanContext.INSIDE)

    assert {part.span, longer.span} == set(combine_candidates([part, longer], flat=False, multi_label=False))
