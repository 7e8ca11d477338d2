"""Extract the visible text of an HTML page; offsets of entities refer to this text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_INVISIBLE: Final = frozenset({"script", "style", "template", "noscript", "head", "svg", "iframe", "object"})
_BLOCKS: Final = re.compile(
    r"address|article|aside|blockquote|body|br|caption|d[dlt]|details|dialog|div|fieldset|figcaption|figure|footer|"
    r"form|h[1-6]|header|hr|li|main|nav|ol|option|p|pre|section|summary|table|tbody|t[dhr]|tfoot|thead|title|ul"
)
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
"""White space that HTML collapses; a no-break space is kept."""


def extract_text(markup: str) -> str:
    """Return the page's text: one line per block, white space collapsed, without scripts and styles."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = (_SPACE.sub(" ", line).strip(" ") for line in reader.block_texts())
    return "\n".join(line for line in lines if line)


class Parser(HTMLParser):
    """Treats `<![` as a comment, as browsers do; Python's parser fails on unknown names there."""

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Skip a marked section; return where it ends."""
        return self.parse_bogus_comment(i)


class _Reader(Parser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[list[str]] = [[]]
        self._invisible: list[str] = []

    def block_texts(self) -> list[str]:
        """Return the text of each block so far."""
        return ["".join(parts) for parts in self._blocks]

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        """Begin a block, or an invisible element."""
        if self._invisible == ["head"] and (tag == "body" or (_BLOCKS.fullmatch(tag) and tag != "title")):
            self._invisible.clear()  # an unclosed head ends here
        if tag in _INVISIBLE:
            self._invisible.append(tag)
        elif _BLOCKS.fullmatch(tag):
            self._begin_block()

    def handle_endtag(self, tag: str) -> None:
        """End a block, or an invisible element."""
        if tag in self._invisible:
            del self._invisible[self._invisible.index(tag) :]
        elif _BLOCKS.fullmatch(tag):
            self._begin_block()

    def handle_data(self, data: str) -> None:
        """Add text to the block if it is visible."""
        if not self._invisible:
            self._blocks[-1].append(data)

    def _begin_block(self) -> None:
        if self._blocks[-1]:
            self._blocks.append([])
