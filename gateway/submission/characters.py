"""Rules for the short strings of clients: ids, labels, descriptions, names. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that are drawn as nothing; all others of the kind have a category of their own."""
_SELECTORS = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
"""Ranges of variation selectors, which choose the look of the character before them."""


def string_error(value: Any, longest: int) -> str | None:
    """Return the reason why a value is no id or label of at most `longest` characters, or None."""
    if not isinstance(value, str):
        return "must be a string"
    if not value or value.isspace():
        return "must not be empty or white space only"
    if len(value) > longest:
        return f"must have at most {longest} characters"
    if value.isascii() and value.isprintable():
        return None
    return character_error(value) or control_error(value)


def label_error(value: Any, longest: int) -> str | None:
    """Return the reason why a value is no label or description that a model can read, or None."""
    error = string_error(value, longest)
    if error is None and not value.isascii() and not any(map(_is_visible, value)):
        return "must have a visible character"
    return error


def character_error(value: str) -> str | None:
    """Return the reason why a string cannot be stored or sent as it is, or None."""
    if "\x00" in value:
        return "must not hold a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must not hold half of a surrogate pair"
    return None


def control_error(value: str) -> str | None:
    """Return the reason why a string does not stay on one line of a log, a URL or a table, or None."""
    if value.isprintable():
        return None
    for character in value:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            return f"must not hold control characters or line breaks (U+{ord(character):04X})"
    return None


def label_key(label: str) -> str:
    """Return the same key for labels that look the same: NFC, no outer blanks, no invisible characters."""
    if label.isascii():
        return label.strip()
    return "".join(filter(_is_shown, unicodedata.normalize("NFC", label))).strip()


def _is_visible(character: str) -> bool:
    """Return whether a character is drawn by itself; combining marks need another to stand on."""
    return unicodedata.category(character)[0] not in "CZM" and character not in _INVISIBLE


def _is_shown(character: str) -> bool:
    """Return whether a character changes how a string looks."""
    if unicodedata.category(character)[0] == "C" or character in _INVISIBLE:
        return False
    return not any(first <= ord(character) <= last for first, last in _SELECTORS)
