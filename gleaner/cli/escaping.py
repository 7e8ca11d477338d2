"""Escape text from files and from the service, so that terminals and line readers treat it as text only."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS: Final = "\x85\u2028\u2029"
_HIDDEN: Final = re.compile(rf"[\x00-\x1f\x7f-\x9f{_SEPARATORS}{_BIDI}\ud800-\udfff]")
_IN_JSON: Final = re.compile(rf"[\x7f-\x9f{_SEPARATORS}{_BIDI}\ud800-\udfff]")


def escape_text(text: object, keep: str = "") -> str:
    r"""Return the text with control characters, line breaks, bidi marks and lone surrogates shown as escapes.

    Args:
        text: any object; its `str()` is escaped.
        keep: characters that are not escaped, for example line breaks.

    Examples:
        >>> escape_text("a\x1b]0;title\x07b")
        'a\\x1b]0;title\\x07b'
    """
    return _HIDDEN.sub(lambda match: match[0] if match[0] in keep else _escape_character(match[0]), str(text))


def dump_json(value: Any, default: Any = None) -> str:
    r"""Return a value as JSON that is one line for every line reader and has no control characters.

    Examples:
        >>> print(dump_json({"text": "Zoë\u2028x"}))
        {"text": "Zoë\u2028x"}
    """
    text = json.dumps(value, ensure_ascii=False, default=default)
    return (
        text
        if text.isascii() and "\x7f" not in text
        else _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    )


def _escape_character(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    return short.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
