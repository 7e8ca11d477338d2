"""Text from files and from the service -> what a terminal and a line reader take as text alone."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS: Final = "\x85\u2028\u2029"
_HIDDEN: Final = re.compile(rf"[\x00-\x1f\x7f-\x9f{_SEPARATORS}{_BIDI}\ud800-\udfff]")
_IN_JSON: Final = re.compile(rf"[\x7f-\x9f{_SEPARATORS}{_BIDI}\ud800-\udfff]")


def plain(text: object, keep: str = "") -> str:
    r"""Return a text whose control characters, line breaks, directions and half surrogates are shown as escapes.

    Args:
        text: anything; `str()` is taken of it.
        keep: characters that stay, as line breaks where lines are printed.

    Examples:
        >>> plain("a\x1b]0;title\x07b")
        'a\\x1b]0;title\\x07b'
    """
    return _HIDDEN.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), str(text))


def dump_json(value: Any, default: Any = None) -> str:
    r"""Return a value as one line of JSON that every line reader reads as one, and a terminal as text.

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


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    return short.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
