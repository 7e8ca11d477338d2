"""Highlight entities in their text for a terminal; a long text is abridged to excerpts around its entities.

The label follows each entity, so that the output is readable without colours. Where entities overlap, the text has
the colour of the shortest and is underlined, and all labels are shown.
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
    """An excerpt of a text, or the whole text."""

    start: int
    end: int


def assign_colours(labels: Sequence[str]) -> dict[str, str]:
    """Return a colour for each label, in order; colours repeat if there are more labels."""
    return {label: _COLOURS[number % len(_COLOURS)] for number, label in enumerate(labels)}


def highlight(text: str, entities: Sequence[Entity], palette: dict[str, str], parts: Sequence[Part]) -> Text:
    """Return the parts of a text with coloured entities; ` … ` marks omitted text.

    Args:
        text: the text that the entities' offsets (in code points) refer to.
        entities: may overlap; an entity that is not completely inside a part is omitted.
        palette: colour by label.
        parts: in order, not overlapping.
    """
    shown = Text()
    for part in parts:
        if part.start > 0:
            shown.append(" … " if shown else "… ", style="dim")
        inside = [entity for entity in entities if part.start <= entity.start and entity.end <= part.end]
        _append_part(shown, text, part, inside, palette)
    if parts and parts[-1].end < len(text):
        shown.append(" …", style="dim")
    return shown


def excerpt_around(text: str, entities: Sequence[Entity], limit: int) -> list[Part]:
    """Return excerpts around the first entities, about `limit` characters in total, cut between words."""
    parts: list[Part] = []
    length = 0
    for entity in sorted(entities, key=lambda item: item.start):
        part = Part(_word_start(text, entity.start - _MARGIN), _word_end(text, entity.end + _MARGIN))
        if parts and part.start <= parts[-1].end + 1:
            part = Part(parts[-1].start, max(parts[-1].end, part.end))
            length -= parts.pop().end - part.start
        if parts and length + part.end - part.start > limit:
            break
        parts.append(part)
        length += part.end - part.start
    return parts or [Part(0, _word_end(text, limit))]


def _append_part(shown: Text, text: str, part: Part, entities: Sequence[Entity], palette: dict[str, str]) -> None:
    ends = {part.start, part.end}
    for entity in entities:
        ends |= {entity.start, entity.end}
    points = sorted(ends)
    for start, end in itertools.pairwise(points):
        covering = [entity for entity in entities if entity.start <= start and end <= entity.end]
        shown.append(_replace_unprintable(text[start:end]), style=_choose_style(covering, palette))
        closing = [entity for entity in entities if entity.end == end]
        for entity in sorted(closing, key=lambda item: -item.start):
            shown.append(f"[{entity.label}]", style=f"dim {palette.get(entity.label, '')}")


def _choose_style(covering: Sequence[Entity], palette: dict[str, str]) -> str:
    if not covering:
        return ""
    innermost = min(covering, key=lambda entity: entity.end - entity.start)
    colour = palette.get(innermost.label, "")
    return f"bold {colour} underline" if len(covering) > 1 else f"bold {colour}"


def _replace_unprintable(text: str) -> str:
    """Return the text with each control character replaced by one printable character."""
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
