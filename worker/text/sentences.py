"""Finds sentences, at which a long text may be cut. Pure; errs on the side of cutting.

A wrong cut costs little, because a long document is also read in overlapping windows that ignore it
(see `worker.text.windows`); a missed cut leaves two sentences together.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from worker.text.bounds import Budget
from worker.text.combining_marks import is_unspaced

TERMINATORS = frozenset(".!?…。！？｡")  # noqa: RUF001
WIDE_TERMINATORS = frozenset("。！？｡")  # noqa: RUF001  # no blank follows these
CLOSERS = frozenset("\"')]}»”’›」』）")  # noqa: RUF001
_ABBREVIATIONS = """
mr mrs ms mx dr prof rev hon sr jr st mt ft lt col gen sgt capt cmdr gov sen rep pres vs nos vol
fig sec ch pp ed eds approx ca cf eg ie al dept univ assn bros jan feb mar apr jun jul aug sep
sept oct nov dec
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
MAX_ABBREVIATION = max(map(len, ABBREVIATIONS))


def find_sentence_starts(
    text: str, starts: Sequence[int], ends: Sequence[int], budget: Budget | None = None
) -> array[int]:
    """Return the first word of each sentence; `starts` and `ends` are the offsets of the text's words."""
    budget = budget or Budget()
    firsts = array("i", [0] if starts else [])
    mark = 0
    for i in budget.iterate(range(len(starts) - 1)):
        # Closers hide the mark that they follow; its index is carried along, as there may be a million closers.
        if not (i and text[starts[i]] in CLOSERS and ends[i - 1] == starts[i]):
            mark = i
        gap = text[ends[i] : starts[i + 1]]
        if gap.count("\n") > 1 or "\u2029" in gap:
            firsts.append(i + 1)
        elif (sign := text[starts[mark]]) in TERMINATORS:
            following = text[starts[i + 1]]
            if not gap:
                ended = sign in WIDE_TERMINATORS and following not in CLOSERS and following not in TERMINATORS
            else:
                ended = sign != "." or not _is_abbreviation(text, starts, ends, mark)
            if ended:
                firsts.append(i + 1)
    return firsts


def _is_abbreviation(text: str, starts: Sequence[int], ends: Sequence[int], stop: int) -> bool:
    """Return whether the full stop at word `stop` belongs to an initial ("J.") or a known abbreviation ("Dr.")."""
    if stop == 0 or ends[stop - 1] != starts[stop]:
        return False
    word = text[starts[stop - 1] : ends[stop - 1]]
    initial = (
        len(word) == 1 and word.isalpha() and not is_unspaced(word)
    )  # a Chinese character is a word, no initial
    return initial or (len(word) <= MAX_ABBREVIATION and word.lower() in ABBREVIATIONS)
