"""Labels as prompts, in groups that fit into a row."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import DocumentError, DocumentErrorCode, Labels
from tests.support.engine import SPEC, FakeEngine
from worker.text.prompts import LabelPrompts, cache_prompts
from worker.text.words import Text

LABELS = st.dictionaries(
    st.text("abcdef ", min_size=1, max_size=40), st.none() | st.text("xyz ", max_size=20), min_size=1, max_size=40
)


def small_engine(row_tokens: int) -> FakeEngine:
    """Return a model with short rows."""
    return FakeEngine(spec=replace(SPEC, max_row_tokens=row_tokens))


@given(LABELS, st.integers(0, 60))
def test_every_readable_label_is_asked_for_once(labels: Labels, words: int) -> None:
    """In order, in prompts that leave half of a row for the text, and without equal prompts in one row."""
    engine = small_engine(64)
    prompts = LabelPrompts.encode(labels, engine)
    passes = prompts.group_passes(Text.encode("word " * words, engine))
    if isinstance(passes, DocumentError):
        assert not prompts.readable_labels
        return
    assert [label for group in passes for label in group.labels] == list(prompts.readable_labels)
    for group in passes:
        assert len(set(group.texts)) == len(group.texts)
        assert group.cost == sum(prompts.costs[label] for label in group.labels)
        assert len(group.token_ids) == sum(group.tokens_per_word)
        assert len(passes) == 1 or group.cost <= prompts.free_tokens // 2 or len(group.labels) == 1


def test_a_description_asks_in_place_of_its_label() -> None:
    """An empty one does not; gliner does the same."""
    prompts = LabelPrompts.encode({"person": "a human being", "city": None, "date": ""}, FakeEngine())
    assert prompts.prompts == ("a human being", "city", "date")


def test_special_tokens_in_a_label_are_removed_and_blank_labels_ignored() -> None:
    """The model would read the rest of the labels as text; each is a warning."""
    prompts = LabelPrompts.encode({"a<<SEP>>b": None, " ": None, "<<ENT>>": None}, FakeEngine())
    assert prompts.prompts[0] == "a b"
    assert prompts.readable_labels == (0,)
    assert len(prompts.warnings) == 2
    assert "Label 2, 3" in prompts.warnings[1]


def test_a_label_that_leaves_no_room_for_text_is_an_error() -> None:
    """Of the document, with the label's number and not its name."""
    engine = small_engine(64)
    error = LabelPrompts.encode({"a": None, "secret" * 60: None}, engine).group_passes(
        Text.encode("w " * 99, engine)
    )
    assert isinstance(error, DocumentError)
    assert error.code is DocumentErrorCode.INPUT_TOO_LONG
    assert "Label 2" in error.detail
    assert "secret" not in error.detail


def test_prompts_of_equal_labels_are_encoded_once() -> None:
    """Their order counts, because results name labels by index."""
    engine = FakeEngine()
    encode = cache_prompts(engine)
    first = encode({"a": None, "b": None}, engine)
    assert encode({"a": None, "b": None}, engine) is first
    assert encode({"b": None, "a": None}, engine).names == ("b", "a")
