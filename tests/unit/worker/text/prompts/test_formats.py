"""The form of prompt that a model reads, and the cache of prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.tasks import Classification, Tasks
from tests.support.engine import SPEC, FakeEngine
from worker.protocols import PromptFormat
from worker.text.prompts.base import TaskPrompts
from worker.text.prompts.formats import cache_prompts, encode_prompts
from worker.text.prompts.gliner import LabelPrompts
from worker.text.prompts.unprompted import UnpromptedTasks


@pytest.mark.parametrize(
    ("prompt_format", "kind"),
    [
        (PromptFormat.GLINER, LabelPrompts),
        (PromptFormat.RELATIONS, LabelPrompts),
        (PromptFormat.NONE, UnpromptedTasks),
    ],
)
def test_the_model_decides_the_form(prompt_format: PromptFormat, kind: type[TaskPrompts]) -> None:
    """Every model reads one form."""
    engine = FakeEngine(replace(SPEC, prompt_format=prompt_format))
    assert type(encode_prompts(Tasks({"a": None}), engine)) is kind


def test_prompts_of_equal_tasks_are_encoded_once() -> None:
    """Their order counts, because results name labels by index; and so does every question."""
    engine = FakeEngine()
    encode = cache_prompts(engine)
    first = encode(Tasks({"a": None, "b": None}), engine)
    assert encode(Tasks({"a": None, "b": None}), engine) is first
    assert encode(Tasks({"b": None, "a": None}), engine).names == ("b", "a")
    questions = {"tone": Classification(labels={"good": None, "bad": None})}
    assert encode(Tasks({"a": None, "b": None}, {}, questions), engine).tasks.classifications == questions
