"""Entities in their text, for a terminal: text + spans -> styled text, a long one abridged around its entities.

The label stands behind each entity, so that the picture can be read without colours too. Overlapping entities are
drawn on top of each other: the shorter one's colour wins, the others show as underline, all labels are there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from gleaner.models import Entity

_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")
_MARGIN: Final = 50
"""Characters kept around an entity when a text is abridged."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a text that is shown; the whole text is one."""

    start: int
    end: int


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, in order, starting over when they run out."""
    return {label: _COLOURS[number % len(_COLOURS)] for number, label in enumerate(labels)}


def highlight(text: str, entities: Sequence[Entity], palette: dict[str, str], parts: Sequence[Part]) -> Text:
    """The parts of a text with its entities in colour; ` … ` stands for what is left out.

    Args:
        text: the text that the entities' offsets (in code points) are of.
        entities: may overlap; one that is not wholly inside a part is left out.
        palette: colour by label.
        parts: in order, apart from each other.
    """
    shown = Text()
    for part in parts:
        if part.start > 0:
            shown.append(" … " if shown else "… ", style="dim")
        inside = [entity for entity in entities if part.start <= entity.start and entity.end <= part.end]
        _append(shown, text, part, inside, palette)
    if parts and parts[-1].end < len(text):
        shown.append(" …", style="dim")
    return shown


def whole(text: str) -> list[Part]:
    """The text as one part."""
    return [Part(0, len(text))]


def around(text: str, entities: Sequence[Entity], limit: int) -> list[Part]:
    """The surroundings of the first entities, `limit` characters in all or a little more, cut between words."""
    parts: list[Part] = []
    length = 0
    for entity in sorted(entities, key=lambda one: one.start):
        part = Part(_word_start(text, entity.start - _MARGIN), _word_end(text, entity.end + _MARGIN))
        if parts and part.start <= parts[-1].end + 1:
            part = Part(parts[-1].start, max(parts[-1].end, part.end))
            length -= parts.pop().end - part.start
        if parts and length + part.end - part.start > limit:
            break
        parts.append(part)
        length += part.end - part.start
    return parts or [Part(0, _word_end(text, limit))]


def _append(shown: Text, text: str, part: Part, entities: Sequence[Entity], palette: dict[str, str]) -> None:
    ends = {part.start, part.end}
    for entity in entities:
        ends |= {entity.start, entity.end}
    points = sorted(ends)
    for start, end in itertools.pairwise(points):
        covering = [one for one in entities if one.start <= start and end <= one.end]
        shown.append(_printable(text[start:end]), style=_style(covering, palette))
        closing = [one for one in entities if one.end == end]
        for one in sorted(closing, key=lambda one: -one.start):
            shown.append(f"[{one.label}]", style=f"dim {palette.get(one.label, '')}")


def _style(covering: Sequence[Entity], palette: dict[str, str]) -> str:
    if not covering:
        return ""
    innermost = min(covering, key=lambda one: one.end - one.start)
    colour = palette.get(innermost.label, "")
    return f"bold {colour} underline" if len(covering) > 1 else f"bold {colour}"


def _printable(text: str) -> str:
    """The text without what a terminal would act upon, each such character replaced by one."""
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _word_start(text: str, at: int) -> int:
    if at <= 0:
        return 0
    space = text.find(" ", at)
    return at if space < 0 else space + 1


def _word_end(text: str, at: int) -> int:
    if at >= len(text):
        return len(text)
    space = text.rfind(" ", 0, at)
    return at if space < 0 else space
