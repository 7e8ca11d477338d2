from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import Document, DocumentStatus, Entity, OffsetUnit, Options, Redact
from jobs.tasks import Tasks
from tests.support.engine import FakeEngine, small_engine
from worker.protocols import Outcome, ShardRef
from worker.text.combining_marks import continues_word
from worker.text.merging import Findings, merge_windows
from worker.text.redaction import EntityRange, RedactedText, RedactionRules, derive_tenant_key, redact_text
from worker.text.windows import JobContext, cut_document

KEY = derive_tenant_key("a secret that is long enough to be one", "acme")
TEXT = "Ada Lovelace met Bob at Ada Lovelace's house in Ely."
ADA, BOB, AGAIN, ELY = (
    EntityRange(0, 12, "person", 0.9),
    EntityRange(17, 20, "person", 0.8),
    EntityRange(24, 36, "person", 0.7),
    EntityRange(48, 51, "city name", 0.6),
)
ALL = [ADA, BOB, AGAIN, ELY]


def redact_all(
    entities: list[EntityRange], unit: OffsetUnit = "codepoint", text: str = TEXT, **how: Any
) -> RedactedText:
    """Redact these entities of the text."""
    return redact_text(text, entities, RedactionRules(Redact(**how), unit, KEY))


def test_labels_stand_for_entities() -> None:
    """Numbered, a value has the same number wherever it stands in the document."""
    assert redact_all(ALL).text == "[PERSON] met [PERSON] at [PERSON]'s house in [CITY_NAME]."
    assert (
        redact_all(ALL, numbered=True).text == "[PERSON_1] met [PERSON_2] at [PERSON_1]'s house in [CITY_NAME_1]."
    )
    assert redact_all([EntityRange(0, 3, "?!", 1)]).text.startswith("[ENTITY] Lovelace")


def test_a_mask_is_as_long_as_the_value_or_as_wanted() -> None:
    """By default every offset of the text stays the same, in the unit that the client counts in."""
    assert redact_all(ALL, mode="mask").text == "************ met *** at ************'s house in ***."
    assert redact_all([BOB], mode="mask", character="█", length=2).text.startswith("Ada Lovelace met ██ at")
    assert redact_all([EntityRange(0, 1, "x", 1)], "utf16", "😀 é", mode="mask").text == "** é"
    assert redact_all([EntityRange(2, 3, "x", 1)], "byte", "😀 é", mode="mask").text == "😀 **"


def test_only_chosen_labels_are_hidden() -> None:
    """The rest stays, and all entities have new offsets."""
    left = redact_all(ALL, labels=["person"])
    assert left.text == "[PERSON] met [PERSON] at [PERSON]'s house in Ely."
    assert [left.text[start:end] for start, end in left.ranges] == ["[PERSON]", "[PERSON]", "[PERSON]", "Ely"]


def test_a_token_is_the_values_own() -> None:
    """The same value gives the same token whatever its label and its spaces; another key gives another."""
    text = "Ada\nLovelace or Ada Lovelace"
    pair = [EntityRange(0, 12, "person", 1), EntityRange(16, 28, "author", 1)]
    first, second = re.findall(
        r"\[(?:PERSON|AUTHOR):([0-9a-f]{16})\]", redact_all(pair, text=text, mode="hash").text
    )
    assert first == second
    other = redact_text(
        text, pair, RedactionRules(Redact(mode="hash"), "codepoint", derive_tenant_key("a secret", "other"))
    ).text
    assert first not in other
    with pytest.raises(ValueError, match="key"):
        redact_text(text, pair, RedactionRules(Redact(mode="hash"), "codepoint", None))


def test_overlapping_entities_are_hidden_as_one() -> None:
    """All of their words go; the longest names them, of equally long ones the surest."""
    text = "the Bank of England in London"
    nested = [
        EntityRange(4, 19, "company", 0.6),
        EntityRange(12, 19, "country", 0.9),
        EntityRange(0, 8, "word", 0.99),
    ]
    left = redact_all(nested, text=text)
    assert left.text == "[COMPANY] in London"
    assert left.ranges == ((0, 9), (0, 9), (0, 9))
    same = [EntityRange(0, 3, "low", 0.5), EntityRange(0, 3, "high", 0.7)]
    assert redact_all(same, text=text).text.startswith("[HIGH] Bank")


def test_an_entity_that_is_not_hidden_gives_up_what_it_shares() -> None:
    """Its offsets cover the replacement, so that its text cannot reveal the hidden part."""
    text = "the Bank of England in London"
    entities = [EntityRange(0, 19, "company", 0.9), EntityRange(12, 19, "country", 0.8)]
    left = redact_all(entities, text=text, labels=["country"])
    assert [left.text[start:end] for start, end in left.ranges] == ["the Bank of [COUNTRY]", "[COUNTRY]"]


letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*[]"), min_size=1, max_size=40)
modes = st.sampled_from(
    [
        {"mode": "label"},
        {"mode": "label", "numbered": True},
        {"mode": "mask"},
        {"mode": "mask", "length": 3},
        {"mode": "hash"},
    ]
)
units = st.sampled_from(["codepoint", "utf16", "byte"])


@st.composite
def texts_with_entities(draw: st.DrawFn) -> tuple[str, list[EntityRange]]:
    """Draw a text and spans anywhere in it, with any overlaps."""
    text = draw(letters)
    spans = draw(st.lists(st.tuples(*[st.integers(0, len(text) - 1)] * 2), max_size=6))
    return text, [
        EntityRange(min(a, b), max(a, b) + 1, draw(st.sampled_from("xyz")), draw(st.floats(0, 1))) for a, b in spans
    ]


@given(texts_with_entities(), modes, units, st.sampled_from([None, ["x"], ["x", "y"]]))
def test_nothing_hidden_stays_and_nothing_else_changes(
    drawn: tuple[str, list[EntityRange]], mode: dict[str, Any], unit: OffsetUnit, labels: list[str] | None
) -> None:
    """Without the replacements the rest is the text without the hidden words, in order."""
    text, entities = drawn
    how = Redact(**mode, labels=labels)
    left = redact_text(text, entities, RedactionRules(how, unit, KEY))
    hidden = {at for e in entities if how.covers(e.label) for at in range(e.start, e.end)}
    for at in range(1, len(text)):
        if at - 1 in hidden and continues_word(text, at):
            hidden.add(at)
    for at in range(len(text) - 1, 0, -1):
        if at in hidden and continues_word(text, at):
            hidden.add(at - 1)

    covers = [range_ for e, range_ in zip(entities, left.ranges, strict=True) if how.covers(e.label)]
    gone = {at for start, end in covers for at in range(start, end)}
    assert "".join(c for at, c in enumerate(left.text) if at not in gone) == "".join(
        c for at, c in enumerate(text) if at not in hidden
    )
    for start, end in covers:
        assert re.fullmatch(r"(\[[XYZ](_\d+|:[0-9a-f]{16})?\]|\*+)", left.text[start:end])
    for e, (start, end) in zip(entities, left.ranges, strict=True):
        if hidden.isdisjoint(range(e.start, e.end)):
            assert left.text[start:end] == text[e.start : e.end]
    if mode == {"mode": "mask"}:
        assert counted(left.text, unit) == counted(text, unit)


def counted(text: str, unit: OffsetUnit) -> int:
    """Return the text's length in a unit."""
    return {"codepoint": len(text), "utf16": len(text.encode("utf-16-le")) // 2, "byte": len(text.encode())}[unit]


def extract(text: str, engine: FakeEngine, key: bytes | None = KEY, **options: Any) -> Any:
    """Cut and merge a text; return its result."""
    plan = cut_document(
        Document(0, "0", text),
        JobContext(ShardRef("j", 0), Tasks({"a": None, "b": None}), Options(**options), redact_key=key),
        engine,
    )
    outcomes: list[Outcome] = [tuple(engine.decode((w,), (w,))[0]) for w in plan.windows]
    return merge_windows(plan, Findings.collect(plan, outcomes), attempts=1)


@given(st.lists(st.sampled_from(["Ada", "Zoë", "😀", "met", "at", "É😀"]), min_size=1, max_size=60), units)
def test_a_result_tells_no_value(words: list[str], unit: OffsetUnit) -> None:
    """Of a short or a long text: offsets are true in every unit, in the text and in the redacted one."""
    text = " ".join(words)
    plain = extract(text, small_engine(), offset_unit=unit)
    result = extract(text, small_engine(), offset_unit=unit, redact={"mode": "hash"})

    def part(whole: str, start: int, end: int) -> str:
        encoding = {"codepoint": "utf-32-le", "utf16": "utf-16-le", "byte": "utf-8"}[unit]
        width = {"codepoint": 4, "utf16": 2, "byte": 1}[unit]
        return whole.encode(encoding)[start * width : end * width].decode(encoding)

    assert result.text is None
    assert [(e.start, e.end, e.label) for e in result.entities] == [
        (e.start, e.end, e.label) for e in plain.entities
    ]
    before: list[Entity] = list(plain.entities)
    for entity, original in zip(result.entities, before, strict=True):
        assert original.text not in entity.text
        assert entity.redacted is not None
        assert part(result.redacted_text, *entity.redacted) == entity.text
        assert part(text, entity.start, entity.end) == original.text
    assert all(original.text not in str(result.to_dict()) for original in before if len(original.text) > 2)


def test_what_was_not_read_whole_is_not_redacted() -> None:
    """The unread rest could hold anything; the document fails alone, and its result has no text."""
    for text, options in (("word " * 100 + "Ada", {"long_text": "truncate"}), ("A" * 900, {})):
        result = extract(text, small_engine(), redact=True, **options)
        assert result.status is DocumentStatus.FAILED
        assert result.error.code == "input_too_long"
        assert (result.text, result.redacted_text, result.entities) == (None, None, ())


def test_a_worker_without_the_key_makes_no_tokens() -> None:
    """The document fails as one that another worker may finish, before the model has run."""
    result = extract("Ada met Bob", FakeEngine(), key=None, redact={"mode": "hash"})
    assert result.error.code.is_retryable
    assert "GLEANER_REDACT_KEY" in result.error.detail
    assert extract("Ada met Bob", FakeEngine(), key=None, redact=True).redacted_text in (
        "[A] met [B]",
        "[B] met [A]",
        "[A] met [A]",
        "[B] met [B]",
    )
