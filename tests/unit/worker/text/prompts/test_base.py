"""Questions of tasks as texts that a model may read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.tasks import RelationType, Tasks
from tests.support.engine import ALL_TASKS, FakeEngine
from worker.protocols import RelationPrompt
from worker.text.prompts.base import Prompt, clean_texts, warn_unreadable
from worker.text.prompts.unprompted import UnpromptedTasks

ENGINE = FakeEngine(replace(ALL_TASKS, relation_marker="<<REL>>"))
RELATIONS = {
    "knows": RelationType(),
    "lives in": RelationType(head=("person",), tail=("city",), threshold=0.9),
    "flows to": RelationType(head=("river",)),
}
PROMPTS = UnpromptedTasks.encode(Tasks(dict.fromkeys(("person", "city", "dog")), RELATIONS), ENGINE)


@pytest.mark.parametrize(("labels", "relations"), [((0, 1, 2), (0, 1)), ((0, 2), (0,)), ((1,), (0,))])
def test_a_pass_asks_only_for_possible_relations(labels: tuple[int, ...], relations: tuple[int, ...]) -> None:
    """Those for which it has a label of a head and one of a tail."""
    assert PROMPTS.select_relations(labels) == relations


def test_relations_name_labels_by_their_position_in_the_pass() -> None:
    """A label of another pass is no head or tail here."""
    prompt = Prompt((1, 0), ("city", "person"), 0, [], (), (1, 0))
    assert PROMPTS.describe_relations(prompt, 0.4) == (
        RelationPrompt("lives in", 0.9, frozenset((1,)), frozenset((0,))),
        RelationPrompt("knows", 0.4),
    )


def test_special_tokens_of_the_model_are_removed() -> None:
    """The marker of relations, too; a text that consists of nothing else asks for nothing."""
    texts, warnings = clean_texts("relation", ["a<<REL>>b", "<<SEP>>", "c"], ENGINE)
    assert texts == ["a b", "", "c"]
    assert warnings == ["A relation contains a special token of the model, which was removed from it."]


def test_unreadable_questions_are_named_by_their_numbers() -> None:
    """At most five; their texts may be confidential."""
    assert warn_unreadable("label", [1, 1]) == []
    assert warn_unreadable("label", [1, *[0] * 6]) == [
        "Label 2, 3, 4, 5, 6, ...: the model cannot read it, so it was ignored."
    ]
