"""Tasks as schemas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from jobs.cost import iterate_prompts, prompt_cost
from jobs.schema import DocumentError, DocumentErrorCode
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import SPEC
from worker.protocols import Encoded, PromptFormat, Words
from worker.text.prompts.formats import encode_prompts
from worker.text.prompts.gliner2 import SchemaPrompts
from worker.text.words import Text

GLINER2 = replace(SPEC, label_marker="[E]", text_marker="[SEP_TEXT]", special_tokens=1, max_row_tokens=128,
                  prompt_format=PromptFormat.GLINER2)  # fmt: skip


class WordTokenizer:
    """A tokenizer of which every part of a word between blanks is a token."""

    spec = GLINER2
    reserved = ("[E]", "[P]", "[SEP_TEXT]")

    def __init__(self) -> None:
        self.seen: list[str] = []

    def split(self, text: str) -> Words:
        """Return the words between blanks."""
        words = text.split()
        return Words(words, [0] * len(words), [1] * len(words))

    def encode(self, words: Sequence[str]) -> Encoded:
        """Return a token for each part."""
        self.seen = [*words]
        counts = [len(word.split()) for word in words]
        return Encoded(range(sum(counts)), counts)

    def count_label_tokens(self, labels: Sequence[str]) -> Sequence[int]:
        """Return the tokens of each label."""
        return self.encode(labels).counts


def read(tokenizer: WordTokenizer, words: int = 5) -> Text:
    """Return a text of words."""
    return Text.encode(" ".join(["word"] * words), tokenizer)


def test_all_questions_are_one_prompt() -> None:
    """With descriptions in the question, as the library writes it."""
    tokenizer = WordTokenizer()
    tasks = Tasks(
        {"person": None, "firm": "a company"},
        {"works for": RelationType(description="is paid by", head=("person",))},
        {"tone": Classification(labels={"good": None, "bad": "no good"})},
    )
    prompts = encode_prompts(tasks, tokenizer)
    assert isinstance(prompts, SchemaPrompts)
    assert prompts.warnings == ()
    [prompt] = prompts.group_passes(read(tokenizer))
    prompts._make_prompt(prompt.labels, prompt.classes)
    assert tokenizer.seen == [
        "(", "[P]", "entities [DESCRIPTION] firm: a company", "(", "[E]", "person", "[E]", "firm", ")", ")",
        "[SEP_STRUCT]", "(", "[P]", "works for: is paid by", "(", "[R]", "head", "[R]", "tail", ")", ")",
        "[SEP_STRUCT]", "(", "[P]", "tone [DESCRIPTION] bad: no good", "(", "[L]", "good", "[L]", "bad", ")", ")",
        "[SEP_TEXT]",
    ]  # fmt: skip
    assert (prompt.labels, prompt.relations, prompt.classes) == ((0, 1), (0,), (0,))
    assert prompt.texts == ("person", "firm: a company")
    assert prompt.cost == len(prompt.token_ids) == sum(prompt.tokens_per_word)


def test_questions_that_do_not_fit_are_asked_in_passes() -> None:
    """Each with half a row for the text; a classification apart."""
    tokenizer = WordTokenizer()
    labels = {f"label {number}": None for number in range(40)}
    tasks = Tasks(labels, {}, {"tone": Classification(labels={"good": None, "bad": None})})
    prompts = encode_prompts(tasks, tokenizer)
    passes = prompts.group_passes(read(tokenizer, 100))
    assert not isinstance(passes, DocumentError)
    assert [index for prompt in passes for index in prompt.labels] == [*range(40)]
    assert [prompt.classes for prompt in passes] == [()] * (len(passes) - 1) + [(0,)]
    assert max(prompt.cost for prompt in passes) <= prompts.free_tokens // 2


def test_classifications_share_passes_as_quotas_count_them() -> None:
    """Many short ones are not a pass each: the estimate before any model sees them would be far too low."""
    tokenizer = WordTokenizer()
    questions = {f"question {number}": Classification(labels={"yes": None, "no": None}) for number in range(20)}
    tasks = Tasks({"person": None}, {}, questions)
    prompts = encode_prompts(tasks, tokenizer)
    passes = prompts.group_passes(read(tokenizer, 100))
    assert not isinstance(passes, DocumentError)
    assert [index for prompt in passes for index in prompt.classes] == [*range(20)]
    assert max(prompt.cost for prompt in passes) <= prompts.free_tokens // 2
    assert 2 < len(passes) <= 7
    assert sum(prompt.cost for prompt in passes) <= 1.2 * prompt_cost(iterate_prompts(tasks)).tokens


def test_special_tokens_are_removed_and_unreadable_labels_ignored() -> None:
    """The model would read a marker as another label; a document is warned once."""
    tokenizer = WordTokenizer()
    prompts = encode_prompts(Tasks({"a[E]b": "see [P]", "[E]": None}), tokenizer)
    assert len(prompts.warnings) == 3
    [prompt] = prompts.group_passes(read(tokenizer))
    assert prompt.texts == ("a b: see  ",)
    nothing = encode_prompts(Tasks({"[E]": None}), tokenizer).group_passes(read(tokenizer))
    assert isinstance(nothing, DocumentError)
    assert nothing.code is DocumentErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize("words", [200, 120])
def test_a_question_without_room_for_text_is_refused(words: int) -> None:
    """The detail has the numbers."""
    tokenizer = WordTokenizer()
    refused = encode_prompts(Tasks({" ".join(["long"] * words): None}), tokenizer).group_passes(read(tokenizer, 9))
    assert isinstance(refused, DocumentError)
    assert "128 at once" in refused.detail


def test_a_classification_alone_has_no_labels() -> None:
    """And none is missed."""
    tokenizer = WordTokenizer()
    prompts = encode_prompts(Tasks(classifications={"tone": Classification(labels={"good": None})}), tokenizer)
    [prompt] = prompts.group_passes(read(tokenizer))
    assert (prompt.labels, prompt.classes) == ((), (0,))
    [question] = prompts.describe_classes(prompt)
    assert question.labels == ("good",)
