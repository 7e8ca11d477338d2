"""Keeps a JSON value on one line, by every reader's definition of a line."""

from __future__ import annotations

_LINE_BREAKS = (
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
    ("\u0085".encode(), rb"\u0085"),
)
"""Characters at which `str.splitlines` splits and which orjson does not escape."""


def escape_line_breaks(content: bytes) -> bytes:
    r"""Return equivalent JSON text in UTF-8 with U+2028, U+2029 and U+0085 escaped.

    These bytes occur in strings only, where JSON may write any character as `\uXXXX`. The control characters
    at which lines are also split (U+000B, U+000C, U+001C to U+001E) are always escaped in JSON.
    """
    for raw, escaped in _LINE_BREAKS:
        if raw in content:
            content = content.replace(raw, escaped)
    return content
