"""Two judged documents whose figures can be counted by hand."""

from __future__ import annotations

from gleaner.evaluation import Judged, Span

ADA, BOB, ELY = Span(0, 3, "person"), Span(8, 11, "person"), Span(15, 18, "city")
WRONG, LONGER = Span(20, 24, "city"), Span(8, 14, "person")


def judged(gold: list[Span], predicted: dict[Span, float]) -> Judged:
    """Return a document."""
    return Judged(frozenset(gold), predicted)


DOCUMENTS = [
    judged([ADA, BOB, ELY], {ADA: 0.9, LONGER: 0.6, ELY: 0.8, WRONG: 0.4}),
    judged([ADA], {ADA: 0.5}),
]
"""By hand: above 0.3 three of five are right, of four that should be found."""
