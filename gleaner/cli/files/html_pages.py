"""Decode HTML pages as browsers do, and extract their visible text, to which offsets of entities refer."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

from gleaner.cli.files.decoding import decode_bytes, find_codec, find_mark
from gleaner.cli.files.rows import InputError, encoding_fault, find_undecoded

_INVISIBLE: Final = frozenset({"script", "style", "template", "noscript", "head", "svg", "iframe", "object"})
_BLOCKS: Final = re.compile(
    r"address|article|aside|blockquote|body|br|caption|d[dlt]|details|dialog|div|fieldset|figcaption|figure|footer|"
    r"form|h[1-6]|header|hr|li|main|nav|ol|option|p|pre|section|summary|table|tbody|t[dhr]|tfoot|thead|title|ul"
)
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
"""White space that HTML collapses; a no-break space is kept."""
_XML: Final = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)""")
_IN_CONTENT: Final = re.compile(r"""charset\s*=\s*["']?\s*([^\s"';]+)""", re.IGNORECASE)
_PRESCAN_BYTES: Final = 4096


def decode_page(page: bytes, encoding: str | None) -> str:
    """Return an HTML page's markup, decoded as in browsers: by byte order mark, `encoding`, its charset, or UTF-8.

    Raises:
        InputError: it cannot be decoded.
    """
    mark, codec = find_mark(page)
    named = encoding or (None if codec else _find_charset(page))
    unknown = ""
    if codec is None:
        try:
            codec = "utf-8" if named is None else find_codec(named)
        except InputError as failure:
            if encoding is not None:
                raise
            codec, unknown = "utf-8", f"the page names the charset {named!r}: {failure}"
        if encoding is None and codec in ("utf-16-le", "utf-16-be"):
            codec = "utf-8"  # the charset was found in ASCII, so the page cannot be UTF-16
    markup = decode_bytes(page[len(mark) :], codec)
    if byte := find_undecoded(markup):
        raise InputError(unknown or encoding_fault(byte, named))
    return markup


def extract_text(markup: str) -> str:
    """Return the page's text: one line per block, white space collapsed, without scripts and styles."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = (_SPACE.sub(" ", line).strip(" ") for line in reader.block_texts())
    return "\n".join(line for line in lines if line)


class _Parser(HTMLParser):
    """Treats `<![` as a comment, as browsers do; Python's parser fails on unknown names there."""

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Skip a marked section; return where it ends."""
        return self.parse_bogus_comment(i)


class _Reader(_Parser):
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


def _find_charset(page: bytes) -> str | None:
    """Return the charset in a page's first bytes, from `<meta>` or an XML declaration, or None."""
    declared = _XML.match(page[:_PRESCAN_BYTES])
    scan = _Prescan()
    scan.feed(page[:_PRESCAN_BYTES].decode("latin-1"))
    return scan.charset or (None if declared is None else declared[1].decode())


class _Prescan(_Parser):
    charset: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the first charset in a `<meta>`."""
        if tag != "meta" or self.charset:
            return
        values = {name: value or "" for name, value in reversed(attrs)}
        self.charset = values.get("charset", "").strip() or None
        if self.charset is None and values.get("http-equiv", "").lower() == "content-type":
            match = _IN_CONTENT.search(values.get("content", ""))
            self.charset = match and match[1]
