"""Words -> sentences: where a long text may be cut. Pure; errs on the side of cutting.

A wrong cut costs little, because a long document is also read in overlapping windows that ignore it
(see `worker.windows`); a missed cut leaves two sentences together.
"""

from __future__ import annotations

from collections.abc import Sequence

TERMINATORS = frozenset(".!?…。！？｡")  # noqa: RUF001
WIDE_TERMINATORS = frozenset("。！？｡")  # noqa: RUF001  # no blank follows these
CLOSERS = frozenset("\"')]}»”’›」』）")  # noqa: RUF001
_ABBREVIATIONS = """
mr mrs ms mx dr prof rev hon sr jr st mt ft lt col gen sgt capt cmdr gov sen rep pres vs nos vol
fig sec ch pp ed eds approx ca cf eg ie al dept univ assn bros jan feb mar apr jun jul aug sep
sept oct nov dec
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())


def sentences(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut words into sentences.

    Args:
        text: the whole text.
        offsets: start and end of every word in it.

    Returns:
        (first word, one past the last word) of each sentence; together they cover all words.
    """
    ranges: list[tuple[int, int]] = []
    first = mark = 0
    for i in range(len(offsets) - 1):
        # Closers hide the mark that they follow; it is carried along, for there may be a million of them.
        if not (i and text[offsets[i][0]] in CLOSERS and offsets[i - 1][1] == offsets[i][0]):
            mark = i
        if _ends_here(text, offsets, i, mark):
            ranges.append((first, i + 1))
            first = i + 1
    if first < len(offsets):
        ranges.append((first, len(offsets)))
    return ranges


def _ends_here(text: str, offsets: Sequence[tuple[int, int]], i: int, mark: int) -> bool:
    """Return whether a sentence ends after word `i`; `mark` is the word that closers up to `i` follow."""
    gap = text[offsets[i][1] : offsets[i + 1][0]]
    if gap.count("\n") > 1 or "\u2029" in gap:
        return True
    sign = text[offsets[mark][0]]
    if sign not in TERMINATORS:
        return False
    following = text[offsets[i + 1][0]]
    if not gap:
        return sign in WIDE_TERMINATORS and following not in CLOSERS and following not in TERMINATORS
    return sign != "." or not _abbreviated(text, offsets, mark)


def _abbreviated(text: str, offsets: Sequence[tuple[int, int]], stop: int) -> bool:
    """True where the full stop at word `stop` belongs to an initial ("J.") or a known abbreviation ("Dr.")."""
    if stop == 0 or offsets[stop - 1][1] != offsets[stop][0]:
        return False
    word = text[slice(*offsets[stop - 1])]
    return (len(word) == 1 and word.isalpha()) or word.lower() in ABBREVIATIONS
