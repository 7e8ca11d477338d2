"""HTML becomes the text that a reader sees."""

from __future__ import annotations

import pytest

from gleaner.cli.pages import text

PAGE = """<!doctype html><html><head><title>Not seen</title><style>p { color: red }</style></head><body>
<h1>Ada   Lovelace</h1><p>born in <b>Lon</b>don, &amp; loved&nbsp;it 😀<br>very much</p>
<script>var x = "<p>not seen</p>";</script><ul><li>one<li>two</ul><noscript>not seen</noscript>
<table><tr><td>a</td><td>b</td></tr></table></body></html>"""


def test_what_a_reader_sees_block_by_block() -> None:
    """Inline tags part no word, blocks part lines, spaces fold, entities are characters, scripts are not seen."""
    seen = ["Ada Lovelace", "born in London, & loved\xa0it 😀", "very much", "one", "two", "a", "b"]
    assert text(PAGE.encode()) == "\n".join(seen)


@pytest.mark.parametrize(
    "page",
    [
        '<meta charset="iso-8859-1"><p>Zoë'.encode("latin-1"),
        "<p>Zoë".encode("utf-16"),
        "\ufeff<p>Zoë".encode(),
        b'<meta charset="no-such"><p>Zo\xc3\xab',
    ],
)
def test_the_pages_own_encoding_is_believed(page: bytes) -> None:
    """A byte order mark, else what the page says of itself, else UTF-8."""
    assert text(page) == "Zoë"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<head><title>t</title><p>a", "a"),
        ("<p>a<script>never closed", "a"),
        ("a < b & c", "a < b & c"),
        ("<svg><text>x</text></svg>a</svg></p>", "a"),
        ("", ""),
    ],
)
def test_broken_pages_lose_no_more_than_they_must(page: str, seen: str) -> None:
    """What browsers forgive is forgiven here."""
    assert text(page.encode()) == seen
