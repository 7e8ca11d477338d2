"""Keeps one JSON value on one line, for every reader's idea of a line."""

from __future__ import annotations

_LINE_BREAKS = (
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
    ("\u0085".encode(), rb"\u0085"),
)
"""Characters that `str.splitlines` takes for the end of a line and orjson writes as they are."""


def escape_line_breaks(content: bytes) -> bytes:
    r"""Return JSON text in UTF-8 with U+2028, U+2029 and U+0085 escaped; it says the same.

    These bytes can stand in strings only, where JSON may write any character as `\uXXXX`. The control characters
    at which lines are split too (U+000B, U+000C, U+001C to U+001E) are always escaped in JSON.
    """
    for raw, escaped in _LINE_BREAKS:
        if raw in content:
            content = content.replace(raw, escaped)
    return content
