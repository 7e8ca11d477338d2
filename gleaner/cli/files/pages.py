"""HTML -> the text that a reader of the page sees, block by block; offsets of entities count in this text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_UNSEEN: Final = frozenset({"script", "style", "template", "noscript", "head", "svg", "iframe", "object"})
_BLOCKS: Final = re.compile(
    r"address|article|aside|blockquote|body|br|caption|d[dlt]|details|dialog|div|fieldset|figcaption|figure|footer|"
    r"form|h[1-6]|header|hr|li|main|nav|ol|option|p|pre|section|summary|table|tbody|t[dhr]|tfoot|thead|title|ul"
)
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
"""What HTML folds; a no-break space stays."""


def text(markup: str) -> str:
    """Return the page's text: one line a block, spaces folded, without scripts and styles."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = (_SPACE.sub(" ", line).strip(" ") for line in reader.blocks())
    return "\n".join(line for line in lines if line)


class Parser(HTMLParser):
    """Takes `<![` for a comment, as browsers do; Python's parser breaks on names it does not know there."""

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Skip a marked section; return where it ends."""
        return self.parse_bogus_comment(i)


class _Reader(Parser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[list[str]] = [[]]
        self._unseen: list[str] = []

    def blocks(self) -> list[str]:
        """What was read so far."""
        return ["".join(parts) for parts in self._blocks]

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        """Begin a block, or what nobody sees."""
        if self._unseen == ["head"] and (tag == "body" or (_BLOCKS.fullmatch(tag) and tag != "title")):
            self._unseen.clear()  # a head that nobody closed ends here
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif _BLOCKS.fullmatch(tag):
            self._break()

    def handle_endtag(self, tag: str) -> None:
        """End what was begun."""
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        elif _BLOCKS.fullmatch(tag):
            self._break()

    def handle_data(self, data: str) -> None:
        """Take text, if somebody sees it."""
        if not self._unseen:
            self._blocks[-1].append(data)

    def _break(self) -> None:
        if self._blocks[-1]:
            self._blocks.append([])
