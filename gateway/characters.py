"""Rules for clients' short strings: ids, labels, descriptions, names. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks without a visible shape; other invisible characters have category C."""
_SELECTORS = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
"""Ranges of variation selectors, which change the shape of the character before them."""


def string_error(value: Any, max_length: int) -> str | None:
    """Return why a value is not a valid id or label of at most `max_length` characters, or None."""
    if not isinstance(value, str):
        return "must be a string"
    if not value or value.isspace():
        return "must not be empty or white space only"
    if len(value) > max_length:
        return f"must have at most {max_length} characters"
    if value.isascii() and value.isprintable():
        return None
    return character_error(value) or control_error(value)


def label_error(value: Any, max_length: int) -> str | None:
    """Return why a value is not a label or description that a model can read, or None."""
    error = string_error(value, max_length)
    if error is None and not value.isascii() and not any(map(_is_visible, value)):
        return "must have a visible character"
    return error


def character_error(value: str) -> str | None:
    """Return why a string cannot be stored or sent unchanged, or None."""
    if "\x00" in value:
        return "must not contain a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must not contain half of a surrogate pair"
    return None


def control_error(value: str) -> str | None:
    """Return why a string would break a line of a log, a URL or a table, or None."""
    if value.isprintable():
        return None
    for character in value:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            return f"must not contain control characters or line breaks (U+{ord(character):04X})"
    return None


def label_key(label: str) -> str:
    """Return a key that is equal for labels that look the same: NFC, stripped, without invisible characters."""
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
