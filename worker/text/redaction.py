"""A document's text without its entities: text and spans -> redacted text, and where each span is now. Pure.

Spans are in code points here. Spans that overlap are hidden as one, under the name of the longest.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jobs.schema import OffsetUnit, Redact
from worker.shards.bounds import Budget
from worker.text.written import continues

_PURPOSE = b"gleaner redact 1\0"
COMPOSED_AT_ONCE = 256
_TOKEN_HEX = 16
"""64 bits: of a hundred million values no two are likely to share a token by chance."""


class Found(NamedTuple):
    """An entity: code points `start` up to, not including, `end`."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text that may be kept.

    Attributes:
        text: what is left, with something in the place of every hidden entity.
        places: of each entity that was found, hidden or not, where it is in `text` (code points, start and end).
    """

    text: str
    places: tuple[tuple[int, int], ...]


class _Region(NamedTuple):
    """A part that is hidden, and the entity that it is named after."""

    start: int
    end: int
    label: str


def tenant_key(secret: str, tenant: str) -> bytes:
    """What a tenant's tokens are made with: another tenant's tokens, made of the same values, tell nothing."""
    return hmac.digest(secret.encode(), _PURPOSE + tenant.encode(), "sha256")


def redact(
    text: str,
    found: Sequence[Found],
    how: Redact,
    unit: OffsetUnit,
    key: bytes | None,
    budget: Budget | None = None,
) -> Redacted:
    """Hide the entities that `how` covers.

    Args:
        text: the whole text.
        found: its entities.
        how: which to hide, and what to show instead.
        unit: what a mask's length is counted in.
        key: for mode `hash`, from `tenant_key`.
        budget: checked on the way.

    Raises:
        ValueError: mode `hash` without a key.
        TooCostlyError, Dropped: by the budget.
    """
    budget = budget or Budget()
    regions = _regions(text, (one for one in found if how.covers(one.label)), budget)
    show = _shown(how, unit, key)
    parts: list[str] = []
    now: list[tuple[int, int]] = []
    before = length = 0
    for region in budget.over(regions):
        shown = show(text[region.start : region.end], region.label)
        parts += (text[before : region.start], shown)
        start = length + region.start - before
        before, length = region.end, start + len(shown)
        now.append((start, length))
    return Redacted("".join((*parts, text[before:])), _places(found, regions, now))


def _regions(text: str, hidden: Iterable[Found], budget: Budget) -> list[_Region]:
    """What is hidden: spans that overlap as one, each up to the ends of its written words."""
    regions: list[_Region] = []
    best: Found | None = None
    for one in budget.over(sorted(hidden, key=lambda one: (one.start, -one.end))):
        before = regions[-1].end if regions else 0
        start = max(one.start, before)
        while before < start < len(text) and continues(text, start):
            start -= 1
        joined = regions and (one.start < before or (0 < before == start and continues(text, start)))
        end = max(one.end, before)
        while 0 < end < len(text) and continues(text, end):
            end += 1
        if joined and best is not None:
            best = max(best, one, key=_rank)
            regions[-1] = _Region(regions[-1].start, end, best.label)
        else:
            best = one
            regions.append(_Region(start, end, one.label))
    return regions


def _rank(one: Found) -> tuple[int, float]:
    return one.end - one.start, one.score


def _places(
    found: Sequence[Found], regions: Sequence[_Region], now: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """Where each entity is now; an end inside something hidden moves to the edge of what is shown instead."""
    firsts = [region.start for region in regions]

    def start(place: int) -> int:
        at = bisect_right(firsts, place) - 1
        inside = at >= 0 and place < regions[at].end
        return now[at][0] if inside else moved(place, at)

    def end(place: int) -> int:
        at = bisect_left(firsts, place) - 1
        inside = at >= 0 and place <= regions[at].end
        return now[at][1] if inside else moved(place, at)

    def moved(place: int, at: int) -> int:
        return place if at < 0 else place + now[at][1] - regions[at].end

    return tuple((start(one.start), end(one.end)) for one in found)


def _shown(how: Redact, unit: OffsetUnit, key: bytes | None) -> Callable[[str, str], str]:
    """What stands for a value of a label."""
    if how.mode == "mask":
        return lambda value, _label: how.character * (how.length or _length(value, unit))
    if how.mode == "hash":
        if key is None:
            raise ValueError("mode hash needs a key")
        return lambda value, label: f"[{_tag(label)}:{_token(key, value)}]"
    if not how.numbered:
        return lambda _value, label: f"[{_tag(label)}]"
    numbers: dict[str, dict[str, int]] = {}

    def numbered(value: str, label: str) -> str:
        tag = _tag(label)
        known = numbers.setdefault(tag, {})
        return f"[{tag}_{known.setdefault(_same(value), len(known) + 1)}]"

    return numbered


def _tag(label: str) -> str:
    return "_".join(re.findall(r"\w+", label)).upper() or "ENTITY"


def _token(key: bytes, value: str) -> str:
    return hmac.digest(key, _same(value).encode(), "sha256").hex()[:_TOKEN_HEX]


def _same(value: str) -> str:
    """The value without what makes no other of it: a line break in a name, how an accent is written.

    Composed in slices: a long run of marks takes quadratic time.
    """
    slices = (value[at : at + COMPOSED_AT_ONCE] for at in range(0, len(value), COMPOSED_AT_ONCE))
    return " ".join("".join(unicodedata.normalize("NFC", part) for part in slices).split())


def _length(value: str, unit: OffsetUnit) -> int:
    if unit == "byte":
        return len(value.encode())
    return len(value) if unit == "codepoint" else len(value.encode("utf-16-le")) // 2
