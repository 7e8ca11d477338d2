"""Labels as prompts, in groups that fit into a row."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import DocumentError, DocumentErrorCode, Labels
from jobs.tasks import RelationType, Tasks
from tests.support.engine import SPEC, FakeEngine
from worker.protocols import PromptFormat, RelationPrompt
from worker.text.prompts.gliner import LabelPrompts
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
    prompts = LabelPrompts.encode(Tasks(labels), engine)
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
    prompts = LabelPrompts.encode(Tasks({"person": "a human being", "city": None, "date": ""}), FakeEngine())
    assert prompts.prompts == ("a human being", "city", "date")


def test_special_tokens_in_a_label_are_removed_and_blank_labels_ignored() -> None:
    """The model would read the rest of the labels as text; each is a warning."""
    prompts = LabelPrompts.encode(Tasks({"a<<SEP>>b": None, " ": None, "<<ENT>>": None}), FakeEngine())
    assert prompts.prompts[0] == "a b"
    assert prompts.readable_labels == (0,)
    assert len(prompts.warnings) == 2
    assert "Label 2, 3" in prompts.warnings[1]


def test_a_label_that_leaves_no_room_for_text_is_an_error() -> None:
    """Of the document, with the label's number and not its name."""
    engine = small_engine(64)
    error = LabelPrompts.encode(Tasks({"a": None, "secret" * 60: None}), engine).group_passes(
        Text.encode("w " * 99, engine)
    )
    assert isinstance(error, DocumentError)
    assert error.code is DocumentErrorCode.INPUT_TOO_LONG
    assert "Label 2" in error.detail
    assert "secret" not in error.detail


RELATIONS = replace(SPEC, prompt_format=PromptFormat.RELATIONS, relation_marker="<<REL>>", max_row_tokens=64)
LIVES_IN = RelationType(head=("person",), tail=("city",))


def test_relations_follow_the_labels() -> None:
    """The order is gliner's: labels, text marker, relations, text marker."""
    engine = FakeEngine(RELATIONS)
    tasks = Tasks({"person": None, "city": None}, {"lives in": LIVES_IN, "knows": RelationType(description="met")})
    prompts = LabelPrompts.encode(tasks, engine)
    [prompt] = prompts.group_passes(Text.encode("Ada", engine)) or []
    words = ["<<ENT>>", "person", "<<ENT>>", "city", "<<SEP>>", "<<REL>>", "lives in", "<<REL>>", "met", "<<SEP>>"]
    assert prompt.tokens_per_word == tuple(engine.count(words))
    assert prompts.relation_prompts == ("lives in", "met")
    assert prompts.free_tokens == 64 - 2 - 2
    assert prompt.cost == sum(prompt.tokens_per_word) - 2
    assert prompts.describe_relations(prompt, 0.4) == (
        RelationPrompt("lives in", 0.4, frozenset((0,)), frozenset((1,))),
        RelationPrompt("met", 0.4),
    )


def test_a_pass_asks_for_the_relations_that_its_labels_may_have() -> None:
    """A relation without a head or a tail in a pass would take tokens for nothing."""
    engine = FakeEngine(RELATIONS)
    labels = dict.fromkeys(("person", "city", *(f"{letter}" * 30 for letter in "abcd")))
    prompts = LabelPrompts.encode(Tasks(labels, {"lives in": LIVES_IN, "knows": RelationType()}), engine)
    passes = prompts.group_passes(Text.encode("w " * 60, engine))
    assert not isinstance(passes, DocumentError)
    assert len(passes) > 1
    assert [prompt.relations for prompt in passes] == [(0, 1), *[(1,)] * (len(passes) - 1)]


def test_relations_that_leave_no_space_for_labels_are_an_error() -> None:
    """Their number of tokens is named, not their text; an unreadable one is a warning."""
    engine = FakeEngine(RELATIONS)
    prompts = LabelPrompts.encode(Tasks({"a": None}, {"secret" * 40: RelationType(), " ": RelationType()}), engine)
    assert prompts.warnings == ("Relation 2: the model cannot read it, so it was ignored.",)
    error = prompts.group_passes(Text.encode("w " * 40, engine))
    assert isinstance(error, DocumentError)
    assert "The relations take 41 tokens" in error.detail
