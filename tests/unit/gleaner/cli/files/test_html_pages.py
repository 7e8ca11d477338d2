"""HTML becomes the text that a reader sees."""

from __future__ import annotations

import pytest

from gleaner.cli.files.html_pages import decode_page, extract_text
from gleaner.cli.files.rows import InputError

PAGE = """<!doctype html><html><head><title>Not seen</title><style>p { color: red }</style></head><body>
<h1>Ada   Lovelace</h1><p>born in <b>Lon</b>don, &amp; loved&nbsp;it 😀<br>very much</p>
<script>var x = "<p>not seen</p>";</script><ul><li>one<li>two</ul><noscript>not seen</noscript>
<table><tr><td>a</td><td>b</td></tr></table></body></html>"""


def test_what_a_reader_sees_block_by_block() -> None:
    """Inline tags part no word, blocks part lines, spaces fold, entities are characters, scripts are not seen."""
    seen = ["Ada Lovelace", "born in London, & loved\xa0it 😀", "very much", "one", "two", "a", "b"]
    assert extract_text(PAGE) == "\n".join(seen)


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ('<meta charset="iso-8859-1"><p>Zoë “q” €'.encode("cp1252"), "Zoë “q” €"),
        ("<META CHARSET = latin1 ><p>Zoë".encode("cp1252"), "Zoë"),
        (b"<meta charset=latin1><p>a\x81b", "a\x81b"),
        (
            '<meta content="text/html; charset=gb2312" http-equiv=Content-Type><p>朱镕基 乾隆'.encode("gb18030"),
            "朱镕基 乾隆",
        ),
        ("<!-- <meta charset=utf-8> --><meta charset=shift_jis><p>東京①".encode("cp932"), "東京①"),
        ('<meta name=description content="charset=utf-16"><p>Zoë'.encode(), "Zoë"),
        ('<?xml version="1.0" encoding="windows-1251"?><html><p>Ада'.encode("cp1251"), "Ада"),
        ('<meta charset="utf-16"><p>Zoë'.encode(), "Zoë"),
        ('<meta charset="ks_c_5601-1987"><p>서울 똠'.encode("cp949"), "서울 똠"),
        ("<meta charset=latin1><p>Zoë".encode("utf-16"), "Zoë"),
        ("\ufeff<meta charset=latin1><p>Zoë".encode(), "Zoë"),
        ('<meta charset="no-such"><p>Zoë'.encode(), "Zoë"),
        ('<meta charset="undefined"><p>Zoë'.encode(), "Zoë"),
        ("<p>Zoë".encode(), "Zoë"),
    ],
)
def test_a_page_is_decoded_as_browsers_do(page: bytes, seen: str) -> None:
    """A byte order mark, else the charset that the page declares (Encoding Standard labels), else UTF-8."""
    assert extract_text(decode_page(page, None)) == seen


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b"<p>Zo\xeb", "not UTF-8"),
        (b"<meta charset=undefined><p>Zo\xeb", "charset 'undefined'.*--encoding"),
        (b"<meta charset=hex><p>Zo\xeb", "charset 'hex'.*--encoding"),
        (b"<meta charset=iso-2022-kr><p>Zo\xeb", "charset 'iso-2022-kr'.*not safe"),
        (b"<meta charset=euc-jp><p>\xff\xff", "invalid in euc-jp"),
    ],
)
def test_a_page_that_cannot_be_decoded_is_told(page: bytes, said: str) -> None:
    """With the charset that it names and the way out; nothing is replaced in silence."""
    with pytest.raises(InputError, match=said):
        decode_page(page, None)


def test_the_user_knows_better_than_the_page() -> None:
    """`--encoding` goes before the page's word, not before its byte order mark."""
    assert extract_text(decode_page("<meta charset=utf-8><p>Ада".encode("koi8-r"), "koi8-r")) == "Ада"
    assert extract_text(decode_page("\ufeff<p>Ада".encode(), "koi8-r")) == "Ада"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<head><title>t</title><p>a", "a"),
        ("<p>a<script>never closed", "a"),
        ("a < b & c", "a < b & c"),
        ("<svg><text>x</text></svg>a</svg></p>", "a"),
        ("", ""),
        ("<p>a<![-- x --><p>b<![endif]--><p>c<![CDATA[d]]>e", "a\nb\nce"),
        ("<p>a<![", "a<!["),
    ],
)
def test_broken_pages_lose_no_more_than_they_must(page: str, seen: str) -> None:
    """Broken markup is accepted as browsers accept it."""
    assert extract_text(page) == seen
