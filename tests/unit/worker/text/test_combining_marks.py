"""Words keep the marks on their letters, composed or combining, and so do replacements."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import Document, Options, Redact
from jobs.tasks import Tasks
from tests.support.engine import SPLIT, FakeEngine
from worker.protocols import ShardRef, Span, Words
from worker.text.combining_marks import INVISIBLE, JOINERS, continues_word, is_mark, join_marks
from worker.text.merging import Findings, merge_windows
from worker.text.redaction import EntityRange, RedactionRules, redact_text
from worker.text.windows import JobContext, cut_document

WRITTEN = join_marks(SPLIT)


def words(text: str) -> list[str]:
    """Return the words as a model with gliner's splitter reads them."""
    return [*WRITTEN(text).words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Lovelace-King, 36", ["Ada", "Lovelace-King", ",", "36"]),
        ("José-María Martínez met Zoë", ["José-María", "Martínez", "met", "Zoë"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("مُحَمَّد كتب", ["مُحَمَّد", "كتب"]),
        ("שָׁלוֹם רב", ["שָׁלוֹם", "רב"]),
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),  # noqa: RUF001
        ("Love\u00adlace wrote", ["Love\u00adlace", "wrote"]),
        ("I \u2764\ufe0f Rome", ["I", "\u2764\ufe0f", "Rome"]),
        ("สวัสดีครับ", ["สวั", "สดี", "ครั", "บ"]),
        ("a\u200d b", ["a", "b"]),
        ("\u0301a", ["a"]),
        ("\u0301 \u0301", ["\u0301", "\u0301"]),
        ("日本が", ["日本が"]),
    ],
)
def test_words_keep_their_marks(text: str, expected: list[str]) -> None:
    """Accents, vowel signs, points, joiners; in scripts without blanks a mark stays with the letter before it."""
    decomposed = unicodedata.normalize("NFD", text)
    assert words(text) == expected
    assert words(decomposed) == [unicodedata.normalize("NFD", word) for word in expected]


@given(st.text(st.sampled_from("ab é\u0301\u200d\u00ad-_.สั日\u3099ह\u094d\ufe0f\u2764\n"), max_size=30))
def test_words_are_parts_of_the_text_in_order(text: str) -> None:
    """Whatever it holds: offsets are exact, words do not overlap, and no letter is lost."""
    split = WRITTEN(text)
    spans = [*zip(split.starts, split.ends, strict=True)]
    assert [text[start:end] for start, end in spans] == [*split.words]
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    covered = {at for start, end in spans for at in range(start, end)}
    assert all(
        at in covered for at, c in enumerate(text) if not c.isspace() and not is_mark(c) and c not in JOINERS
    )


@given(st.text(st.sampled_from("abc é.,-\n日本"), max_size=30))
def test_other_texts_are_cut_as_ever(text: str) -> None:
    """Without marks and joiners a model reads the words of gliner's splitter."""

    def lists(split: Words) -> list[list[object]]:
        return [[*column] for column in split]

    composed = unicodedata.normalize("NFC", text)
    assert lists(WRITTEN(composed)) == lists(SPLIT(composed))


LETTERS = st.text(st.sampled_from("ab é\u0301\u200b\u200d\u00adสั日本\u3099ह\u094dِب1 .'"), min_size=1, max_size=25)


@given(LETTERS, st.data())
def test_what_is_hidden_ends_where_written_words_end(text: str, data: st.DataObject) -> None:
    """No mark, joiner or letter of a hidden word stays next to its replacement."""
    spans = data.draw(st.lists(st.tuples(*[st.integers(0, len(text) - 1)] * 2), min_size=1, max_size=4))
    entities = [EntityRange(min(pair), max(pair) + 1, "x", 0.5) for pair in spans]
    shown = redact_text(text, entities, RedactionRules(Redact(mode="mask"), "codepoint", None)).text
    assert len(shown) == len(text)
    for at in range(1, len(text)):
        if continues_word(text, at):
            assert (shown[at] == "*") == (shown[at - 1] == "*")
    assert all(shown[at] == "*" for entity in entities for at in range(entity.start, entity.end))


@pytest.mark.parametrize("joiner", sorted(INVISIBLE))
def test_an_invisible_character_saves_no_part_of_a_name(joiner: str) -> None:
    """Found up to it or from it on, the whole visible word is hidden."""
    text = f"by Love{joiner}lace today"
    for start, end in ((3, 7), (8, 12)):
        shown = redact_text(
            text, [EntityRange(start, end, "person", 0.9)], RedactionRules(Redact(), "codepoint", None)
        ).text
        assert shown == "by [PERSON] today"


def test_a_decomposed_name_is_found_and_hidden_as_the_composed_one() -> None:
    """The tokens are the same, and the entity is the word as it is written."""

    class Capitals(FakeEngine):
        def split(self, text: str) -> Words:
            return WRITTEN(text)

    texts = {
        form: unicodedata.normalize(form, "So José Martínez met Zoë Ångström in Bonn.") for form in ("NFC", "NFD")
    }
    shown, lengths = {}, set()
    for form, text in texts.items():
        options = Options(redact=True)
        plan = cut_document(
            Document(0, "0", text), JobContext(ShardRef("job", 0), Tasks({"name": None}), options), Capitals()
        )
        spans = tuple(
            Span(at, at + 1, 0, 0.9) for at, word in enumerate(plan.windows[0].words) if word[0].isupper()
        )
        shown[form] = merge_windows(plan, Findings.collect(plan, [spans]), 1).redacted_text
        lengths.add(plan.windows[0].row_tokens)
    assert len(lengths) == 1
    assert shown["NFC"] == shown["NFD"]
    assert not re.search("[\u0301\u0308\u030a]", shown["NFD"] or "")
