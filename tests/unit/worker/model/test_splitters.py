"""Words by the splitters that can be set."""

from __future__ import annotations

import importlib.util
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import regex
from gliner.data_processing.tokenizer import WhitespaceTokenSplitter, WordsSplitter
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import Document, Redact
from jobs.tasks import Tasks
from tests.support.engine import FakeEngine
from tests.support.scripts import SCRIPTS
from worker.model import splitters
from worker.model.errors import ExtraMissingError, ModelBrokenError
from worker.model.splitters import WORD, Splitter
from worker.protocols import ShardRef, Words
from worker.text.combining_marks import JOINERS, is_mark, join_marks
from worker.text.redaction import EntityRange, RedactionRules, redact_text
from worker.text.sentences import find_sentence_starts
from worker.text.windows import JobContext, cut_document
from worker.text.words import make_pattern_splitter

CHAR = splitters.make_splitter("char")
WHITESPACE = join_marks(make_pattern_splitter(WORD))


def test_the_pattern_is_gliners() -> None:
    """`char` splits other scripts as gliner's splitter `whitespace` does."""
    assert WhitespaceTokenSplitter().whitespace_pattern.pattern == WORD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("李明在Huawei 4号楼。", "李|明|在|Huawei|4|号|楼|。"),
        ("ラーメン\uff12\uff10年", "ラ|ー|メ|ン|\uff12\uff10|年"),
        ("か\u3099きｶﾞ", "か\u3099|き|ｶﾞ"),
        ("人々\u3007", "人|々|\u3007"),
        ("น้ำใจ กรุง 24", "น้ำ|ใ|จ|ก|รุ|ง|24"),
        ("ລາວນ້ຳ", "ລ|າ|ວ|ນ້ຳ"),
        ("ក្រុមហ៊ុន", "ក្រុ|ម|ហ៊ុ|ន"),
        ("မန္တလေး", "မ|န္တ|လေး"),
        ("김철수는 서울에서", "김철수는|서울에서"),
        ("हिन्दी में", "हिन्दी|में"),
        ("Ada Lovelace-King, 36", "Ada|Lovelace-King|,|36"),
        ("e\u0301te\u0301 Zoë_1", "e\u0301te\u0301|Zoë_1"),
        ("می\u200cخواهم بروم", "می\u200cخواهم|بروم"),  # noqa: RUF001
        ("Love\u00adlace", "Love\u00adlace"),
        ("I \u2764\ufe0f 👩\u200d🚀 🇩🇪", "I|\u2764\ufe0f|👩\u200d🚀|🇩🇪"),
    ],
)
def test_each_character_of_a_script_without_blanks_is_a_word(text: str, expected: str) -> None:
    """Marks, vowel signs and subscripts stay with their letter; digits, Latin words and Korean are whole."""
    assert [*CHAR(text).words] == expected.split("|")


ANY = st.text(
    st.sampled_from(
        "ab é\u0301\u200d\u200c\u00ad-_.1สั้ำเ日本々ーか\u3099ﾞहि\u094d្កရ္\ufe0f\u2764👩🚀🇩🇪한\u1112\u1161\n\r"
    )
    | st.characters(codec="utf-8"),
    max_size=30,
)


@given(ANY)
def test_words_are_whole_graphemes_in_order(text: str) -> None:
    """Offsets are exact, words and gaps are the text, no word begins or ends in a grapheme, no letter is lost."""
    split = CHAR(text)
    spans = [*zip(split.starts, split.ends, strict=True)]
    assert [text[start:end] for start, end in spans] == [*split.words]
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    edges = [0, *(at for span in spans for at in span), len(text)]
    assert "".join(text[start:end] for start, end in pairwise(edges)) == text
    inside = {at for match in regex.finditer(r"\X", text) for at in range(match.start() + 1, match.end())}
    assert not inside.intersection(at for span in spans for at in span)
    covered = {at for start, end in spans for at in range(start, end)}
    marks = [at for at in range(1, len(text)) if is_mark(text[at]) and at - 1 in covered]
    assert all(at in covered for at in marks)
    assert all(at in covered for at, c in enumerate(text) if c.isalnum() and regex.match(r"[\p{L}\p{N}]", c))


@given(st.text(st.sampled_from("abc éß.,-_\n\t 12Жя한국दनي"), max_size=40))
def test_other_scripts_are_cut_as_by_whitespace(text: str) -> None:
    """A model reads texts with blanks as it always did."""
    text = unicodedata.normalize("NFC", text)
    assert [[*column] for column in CHAR(text)] == [[*column] for column in WHITESPACE(text)]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_character_is_lost(name: str) -> None:
    """In no script does a word miss a letter."""
    words = "".join(CHAR(SCRIPTS[name]).words)
    left_out = {*SCRIPTS[name]} - {*words}
    assert all(c.isspace() or c in JOINERS or c == "\u200b" for c in left_out)


class Reader(FakeEngine):
    """Reads by characters."""

    def split(self, text: str) -> Words:
        return CHAR(text)


def test_sentences_end_where_they_do() -> None:
    """A Chinese character before a full stop is a word, not an initial as J. is."""
    text = "他来了. 我走了。你呢？J. Smith 来了."  # noqa: RUF001
    split = CHAR(text)
    firsts = find_sentence_starts(text, split.starts, split.ends)
    assert [text[split.starts[first]] for first in firsts] == ["他", "我", "你", "J"]


def test_a_long_text_without_blanks_is_read_whole() -> None:
    """6,000 characters without punctuation are 6,000 words, in windows; by whitespace they are one word."""
    plan = cut_document(
        Document(0, "0", "北京大学" * 1500), JobContext(ShardRef("job", 0), Tasks({"person": None})), Reader()
    )
    assert not plan.truncated
    assert plan.grid is not None
    assert {at for first, last, _ in plan.grid.ranges for at in range(first, last)} == {*range(6000)}


def test_what_is_hidden_is_the_entity_alone() -> None:
    """A name inside of a text without blanks is hidden without its neighbours."""
    text = "昨天李明在北京。"
    assert (
        redact_text(text, [EntityRange(2, 4, "person", 0.9)], RedactionRules(Redact(), "codepoint", None)).text
        == "昨天[PERSON]在北京。"
    )


def test_spacy_is_gliners_and_keeps_no_words() -> None:
    """The words are those of gliner's splitter, from many threads; texts do not stay in memory."""
    split, library = splitters.make_splitter("spacy"), WordsSplitter("spacy")
    texts = [text for text in SCRIPTS.values() if text.isascii()] * 20
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(split, texts))
    for text, words in zip(texts, read, strict=True):
        assert [*zip(words.words, words.starts, words.ends, strict=True)] == [*library(text)]
    assert len(split("a " * 600_000).words) == 600_000
    assert len(split("(" * 1_000_000).words) == 1_000_000  # hours with spaCy


def test_stanza_is_refused_with_what_to_do() -> None:
    """It would fetch a model for each language that texts are in."""
    with pytest.raises(ModelBrokenError, match=r"owner/x: .*downloads.*GLEANER_WORD_SPLITTER=whitespace"):
        splitters.choose_splitter("owner/x", "stanza")
    assert splitters.choose_splitter("owner/x", "stanza", Splitter.WHITESPACE) == "whitespace"


@pytest.mark.parametrize("name", ["spacy", "mecab", "jieba", "janome", "camel", "hindi", "universal"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package to install, and the setting that does without it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ExtraMissingError, match=rf"{name}.*pip install '.*GLEANER_WORD_SPLITTER=whitespace"):
        splitters.choose_splitter("owner/x", name)
    with pytest.raises(ExtraMissingError):
        splitters.make_splitter(name)
    assert splitters.choose_splitter("owner/x", name, Splitter.CHAR) == "char"
