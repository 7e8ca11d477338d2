"""Redacts entities in a text; returns the redacted text and the new offsets of the entities. Pure.

Offsets are in code points here. Entities that overlap are replaced together, with the label of the longest.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jobs.schema import OffsetUnit, Redact
from worker.text.bounds import Budget
from worker.text.combining_marks import continues_word

_PURPOSE = b"gleaner redact 1\0"
COMPOSE_CHARACTERS = 256
_TOKEN_HEX = 16
"""64 bits: among a hundred million values no two are likely to share a token by chance."""


class EntityRange(NamedTuple):
    """An entity: code points `start` up to, not including, `end`."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """How entities are redacted.

    Attributes:
        redact: the labels to redact, and the kind of replacement.
        unit: unit in which a mask's length is counted.
        key: for mode `hash`, from `derive_tenant_key`.
    """

    redact: Redact
    unit: OffsetUnit
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A redacted text.

    Attributes:
        text: the text, with a replacement for every redacted entity.
        ranges: start and end in `text` of each entity, redacted or not (code points).
    """

    text: str
    ranges: tuple[tuple[int, int], ...]


class _Region(NamedTuple):
    """A part of the text that is replaced, and the label that names it."""

    start: int
    end: int
    label: str


def derive_tenant_key(secret: str, tenant: str) -> bytes:
    """Return the key of a tenant's tokens: the same value has unrelated tokens in two tenants."""
    return hmac.digest(secret.encode(), _PURPOSE + tenant.encode(), "sha256")


def redact_text(
    text: str, entities: Sequence[EntityRange], rules: RedactionRules, budget: Budget | None = None
) -> RedactedText:
    """Replace the entities of a text that the rules cover.

    Raises:
        ValueError: mode `hash` without a key.
    """
    budget = budget or Budget()
    regions = _find_regions(text, (entity for entity in entities if rules.redact.covers(entity.label)), budget)
    replace = _make_replacer(rules)
    parts: list[str] = []
    replaced: list[tuple[int, int]] = []
    before = length = 0
    for region in budget.iterate(regions):
        replacement = replace(text[region.start : region.end], region.label)
        parts += (text[before : region.start], replacement)
        start = length + region.start - before
        before, length = region.end, start + len(replacement)
        replaced.append((start, length))
    return RedactedText("".join((*parts, text[before:])), _move_ranges(entities, regions, replaced))


def _find_regions(text: str, entities: Iterable[EntityRange], budget: Budget) -> list[_Region]:
    """Return the parts to replace: overlapping entities as one, each extended to the ends of its written words."""
    regions: list[_Region] = []
    longest: EntityRange | None = None
    for entity in budget.iterate(sorted(entities, key=lambda entity: (entity.start, -entity.end))):
        before = regions[-1].end if regions else 0
        start = max(entity.start, before)
        while before < start < len(text) and continues_word(text, start):
            start -= 1
        is_joined = regions and (entity.start < before or (0 < before == start and continues_word(text, start)))
        end = max(entity.end, before)
        while 0 < end < len(text) and continues_word(text, end):
            end += 1
        if is_joined and longest is not None:
            longest = max(longest, entity, key=_rank_entity)
            regions[-1] = _Region(regions[-1].start, end, longest.label)
        else:
            longest = entity
            regions.append(_Region(start, end, entity.label))
    return regions


def _rank_entity(entity: EntityRange) -> tuple[int, float]:
    return entity.end - entity.start, entity.score


def _move_ranges(
    entities: Sequence[EntityRange], regions: Sequence[_Region], replaced: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """Return each entity's new range; an end inside a replaced part moves to the edge of the replacement."""
    starts = [region.start for region in regions]

    def move_start(offset: int) -> int:
        index = bisect_right(starts, offset) - 1
        is_inside = index >= 0 and offset < regions[index].end
        return replaced[index][0] if is_inside else shift(offset, index)

    def move_end(offset: int) -> int:
        index = bisect_left(starts, offset) - 1
        is_inside = index >= 0 and offset <= regions[index].end
        return replaced[index][1] if is_inside else shift(offset, index)

    def shift(offset: int, index: int) -> int:
        return offset if index < 0 else offset + replaced[index][1] - regions[index].end

    return tuple((move_start(entity.start), move_end(entity.end)) for entity in entities)


def _make_replacer(rules: RedactionRules) -> Callable[[str, str], str]:
    """Return a function of value and label that returns the replacement."""
    redact, unit, key = rules.redact, rules.unit, rules.key
    if redact.mode == "mask":
        return lambda value, _label: redact.character * (redact.length or _measure(value, unit))
    if redact.mode == "hash":
        if key is None:
            raise ValueError("mode hash needs a key")
        return lambda value, label: f"[{_make_tag(label)}:{_make_token(key, value)}]"
    if not redact.numbered:
        return lambda _value, label: f"[{_make_tag(label)}]"
    numbers: dict[str, dict[str, int]] = {}

    def replace_by_number(value: str, label: str) -> str:
        tag = _make_tag(label)
        tag_numbers = numbers.setdefault(tag, {})
        return f"[{tag}_{tag_numbers.setdefault(_normalize(value), len(tag_numbers) + 1)}]"

    return replace_by_number


def _make_tag(label: str) -> str:
    return "_".join(re.findall(r"\w+", label)).upper() or "ENTITY"


def _make_token(key: bytes, value: str) -> str:
    return hmac.digest(key, _normalize(value).encode(), "sha256").hex()[:_TOKEN_HEX]


def _normalize(value: str) -> str:
    """Return the value without irrelevant differences: a line break in a name, how an accent is written.

    Composed in slices: a long run of marks takes quadratic time.
    """
    slices = (value[at : at + COMPOSE_CHARACTERS] for at in range(0, len(value), COMPOSE_CHARACTERS))
    return " ".join("".join(unicodedata.normalize("NFC", part) for part in slices).split())


def _measure(value: str, unit: OffsetUnit) -> int:
    if unit == "byte":
        return len(value.encode())
    return len(value) if unit == "codepoint" else len(value.encode("utf-16-le")) // 2
