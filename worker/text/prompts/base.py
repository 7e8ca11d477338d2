"""Turns a document's tasks into questions in the form that a model reads, in groups that fit into one row. Pure.

Each form of prompt is a subclass of `TaskPrompts`; `worker.text.prompts.formats` chooses it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from jobs.schema import DocumentError
from jobs.tasks import Tasks
from worker.protocols import ClassPrompt, ModelSpec, RelationPrompt, Tokenizer
from worker.text.words import Text

MAX_LISTED = 5
"""Labels that a warning lists."""


class Prompt(NamedTuple):
    """The questions that one row asks.

    Attributes:
        labels: indexes of the labels.
        texts: text that asks the model for each label.
        cost: tokens of the row that the questions take, markers included; `TaskPrompts.fixed_tokens` aside.
        token_ids: tokens of the prompt, complete.
        tokens_per_word: number of tokens of each word of the prompt.
        relations: indexes of the relations.
        classes: indexes of the classifications.
    """

    labels: tuple[int, ...]
    texts: tuple[str, ...]
    cost: int
    token_ids: list[int]
    tokens_per_word: tuple[int, ...]
    relations: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaskPrompts(ABC):
    """The questions of a document's tasks, as texts that a model reads.

    Attributes:
        tasks: the tasks; indexes of labels, relations and classifications are those of its fields.
        prompts: the text of each label.
        relation_prompts: the text of each relation.
        fixed_tokens: tokens of a row that are neither question nor text.
        warnings: what the model cannot read of the questions.
    """

    tasks: Tasks
    spec: ModelSpec
    prompts: tuple[str, ...]
    relation_prompts: tuple[str, ...]
    fixed_tokens: int
    warnings: tuple[str, ...]

    @abstractmethod
    def group_passes(self, text: Text) -> list[Prompt] | DocumentError:
        """Return the questions in groups, each for one pass over the text, or the reason why there are none."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(self.tasks.labels)

    @property
    def free_tokens(self) -> int:
        """Tokens of a row that are left for questions and text."""
        return self.spec.max_row_tokens - self.fixed_tokens

    def select_relations(self, labels: Iterable[int]) -> tuple[int, ...]:
        """Return the readable relations that entities of these labels may have."""
        names = {self.names[label] for label in labels}
        return tuple(
            index
            for index, relation in enumerate(self.tasks.relations.values())
            if self.relation_prompts[index]
            and all(ends is None or not names.isdisjoint(ends) for ends in (relation.head, relation.tail))
        )

    def describe_relations(self, prompt: Prompt, default_threshold: float) -> tuple[RelationPrompt, ...]:
        """Return a pass's relations as its windows ask for them."""
        positions = {self.names[label]: position for position, label in enumerate(prompt.labels)}
        types = [*self.tasks.relations.values()]
        relations = []
        for index in prompt.relations:
            relation = types[index]
            threshold = default_threshold if relation.threshold is None else relation.threshold
            heads, tails = _locate_labels(relation.head, positions), _locate_labels(relation.tail, positions)
            relations.append(RelationPrompt(self.relation_prompts[index], threshold, heads, tails))
        return tuple(relations)

    def describe_classes(self, prompt: Prompt) -> tuple[ClassPrompt, ...]:
        """Return a pass's classifications as its windows ask for them."""
        classifications = [*self.tasks.classifications.items()]
        return tuple(
            ClassPrompt(name, tuple(question.labels), tuple(question.labels.values()), question.multi_label)
            for name, question in (classifications[index] for index in prompt.classes)
        )


def clean_texts(kind: str, texts: Iterable[str], tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Return texts of questions without the model's special tokens, and the resulting warnings; blank ones are "".

    The model would read such a token as the end of the question. `kind` is the word for one, in lower case.
    """
    spec = tokenizer.spec
    special = {spec.label_marker, spec.text_marker, spec.relation_marker, *tokenizer.reserved} - {""}
    cleaned, warnings = [], []
    for text in texts:
        for token in special:
            if token in text:
                text = text.replace(token, " ")
                warnings.append(f"A {kind} contains a special token of the model, which was removed from it.")
        cleaned.append(text.strip() and text)
    return cleaned, [*dict.fromkeys(warnings)]


def warn_unreadable(kind: str, counts: Sequence[int]) -> list[str]:
    """Return a warning if some questions have no token; their answers would be those of all others."""
    unreadable = [number for number, count in enumerate(counts, 1) if not count]
    if not unreadable:
        return []
    numbers = ", ".join(map(str, unreadable[:MAX_LISTED]))
    numbers += ", ..." if len(unreadable) > MAX_LISTED else ""
    return [f"{kind.capitalize()} {numbers}: the model cannot read it, so it was ignored."]


def _locate_labels(names: Iterable[str] | None, positions: Mapping[str, int]) -> frozenset[int] | None:
    return None if names is None else frozenset(positions[name] for name in names if name in positions)
