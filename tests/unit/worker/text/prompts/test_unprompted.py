"""Tasks that take no tokens of a row."""

from __future__ import annotations

from dataclasses import replace

from jobs.schema import DocumentError
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import SPEC, FakeEngine
from worker.protocols import ClassPrompt, PromptFormat
from worker.text.prompts.unprompted import UnpromptedTasks
from worker.text.words import Text

ENGINE = FakeEngine(replace(SPEC, prompt_format=PromptFormat.NONE))
TEXT = Text.encode("w " * 500, ENGINE)


def test_all_questions_are_asked_in_one_pass() -> None:
    """Whatever their number; the whole row is left for the text."""
    tone = Classification(labels={"good": "it pleases", "bad": None})
    labels = {f"label {n}": None for n in range(2000)} | {"<<SEP>>": None}
    prompts = UnpromptedTasks.encode(Tasks(labels, {"knows": RelationType()}, {"tone": tone}), ENGINE)
    passes = prompts.group_passes(TEXT)
    assert not isinstance(passes, DocumentError)
    [prompt] = passes
    assert (len(prompt.labels), prompt.cost, prompt.token_ids) == (2000, 0, [])
    assert (prompt.relations, prompt.classes) == ((0,), (0,))
    assert prompts.free_tokens == SPEC.max_row_tokens - SPEC.special_tokens
    assert prompts.describe_classes(prompt) == (ClassPrompt("tone", ("good", "bad"), ("it pleases", None), False),)


def test_without_a_readable_question_there_is_nothing_to_read() -> None:
    """A classification alone is enough."""
    tone = Classification(labels={"good": None})
    assert isinstance(UnpromptedTasks.encode(Tasks({" ": None}), ENGINE).group_passes(TEXT), DocumentError)
    assert isinstance(UnpromptedTasks.encode(Tasks({}, {}, {"tone": tone}), ENGINE).group_passes(TEXT), list)


def test_a_label_that_the_model_cannot_read_completely_gets_a_warning() -> None:
    """A label without tokens is not asked for; of a long one the beginning is."""
    engine = FakeEngine(replace(ENGINE.spec, max_label_tokens=2))
    prompts = UnpromptedTasks.encode(Tasks({"ok": None, " ": None, "a" * 13: None, "x": "b" * 13}), engine)
    assert prompts.prompts == ("ok", "", "a" * 13, "b" * 13)
    assert prompts.warnings == (
        "Label 2: the model cannot read it, so it was ignored.",
        "Label 3, 4: only the first 2 tokens were read.",
    )
