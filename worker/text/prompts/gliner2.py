"""Prompts of GLiNER2's models: a schema for each question, in front of the text. Pure.

A schema is a question with the names that it asks for, each after a marker; descriptions are part of the question.
The model reads names and descriptions, in the form of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from jobs.schema import DocumentError, DocumentErrorCode
from jobs.tasks import Tasks
from worker.protocols import Tokenizer
from worker.text.prompts.base import Prompt, TaskPrompts, clean_texts, warn_unreadable
from worker.text.words import Text

MIN_TEXT_SHARE = 8
"""Questions are rejected if they leave the text less than one part in this many of a row."""
LABELS, RELATIONS, CLASSES = "[E]", "[R]", "[L]"
"""Markers before the names of a schema."""

Schema = tuple[str, ...]


@dataclass(frozen=True)
class SchemaPrompts(TaskPrompts):
    """Labels, relations and classifications as schemas.

    Attributes:
        labels: each label's name and description, without special tokens.
        relations: the schema of each relation.
        classes: the schema of each classification.
        tokenizer: encodes the schemas.
    """

    labels: tuple[tuple[str, str], ...]
    relations: tuple[Schema, ...]
    classes: tuple[Schema, ...]
    tokenizer: Tokenizer

    @classmethod
    def encode(cls, tasks: Tasks, tokenizer: Tokenizer) -> SchemaPrompts:
        """Return the schemas of tasks."""
        names, warnings = clean_texts("label", tasks.labels, tokenizer)
        texts, more = clean_texts("description", (text or "" for text in tasks.labels.values()), tokenizer)
        counts = tokenizer.encode(names).counts
        relations, of_relations = clean_texts(
            "relation",
            (f"{name}: {of.description}" if of.description else name for name, of in tasks.relations.items()),
            tokenizer,
        )
        classes, of_classes = _clean_classes(tasks, tokenizer)
        labels = tuple(
            (name if count else "", text) for name, count, text in zip(names, counts, texts, strict=True)
        )
        return cls(
            tasks,
            tokenizer.spec,
            tuple(f"{name}: {text}" if name and text else name for name, text in labels),
            tuple(relations),
            tokenizer.spec.special_tokens,
            (*dict.fromkeys((*warnings, *more, *warn_unreadable("label", counts), *of_relations, *of_classes)),),
            labels,
            tuple(_make_schema(text, RELATIONS, (("head", ""), ("tail", ""))) for text in relations),
            classes,
            tokenizer,
        )

    @cached_property
    def readable_labels(self) -> tuple[int, ...]:
        """Indexes of the labels that have a token; the rest is ignored."""
        return tuple(index for index, (name, _) in enumerate(self.labels) if name)

    @cached_property
    def full_prompt(self) -> Prompt:
        """The prompt for all questions at once."""
        return self._make_prompt(self.readable_labels, tuple(range(len(self.classes))))

    @cached_property
    def separate_prompts(self) -> list[Prompt]:
        """The prompts for labels in groups, with the relations that they may have, and for classifications."""
        labels = self._group_questions(self.readable_labels, lambda group: self._make_prompt(group, ()))
        classes = self._group_questions(range(len(self.classes)), lambda group: self._make_prompt((), group))
        return [*labels, *classes]

    def group_passes(self, text: Text) -> list[Prompt] | DocumentError:
        """Return the questions in groups: all at once if they fit with the text or into half a row."""
        if not self.readable_labels and (self.labels or not self.classes):
            return DocumentError(DocumentErrorCode.INVALID_DOCUMENT, "The model can read none of the labels.")
        cost = self.full_prompt.cost
        if cost <= self.free_tokens // 2 or text.fits_row(0, len(text.words), self.free_tokens - cost):
            return [self.full_prompt]
        largest = max(prompt.cost for prompt in self.separate_prompts)
        if self.free_tokens - largest < self.spec.max_row_tokens // MIN_TEXT_SHARE:
            detail = f"A group of questions takes {largest} tokens; "
            detail += f"the model reads {self.spec.max_row_tokens} at once."
            return DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail)
        return self.separate_prompts

    def _group_questions(
        self, questions: Sequence[int], make_prompt: Callable[[tuple[int, ...]], Prompt]
    ) -> list[Prompt]:
        """Return prompts for groups of questions, each of which leaves the text half a row if it has several."""
        prompts: list[Prompt] = []
        group: tuple[int, ...] = ()
        for question in questions:
            prompt = make_prompt((*group, question))
            if group and prompt.cost <= self.free_tokens // 2:
                group, prompts[-1] = (*group, question), prompt
            else:
                group = (question,)
                prompts.append(make_prompt(group))
        return prompts

    def _make_prompt(self, labels: tuple[int, ...], classes: tuple[int, ...]) -> Prompt:
        relations = self.select_relations(labels) if labels else ()
        names = [self.labels[index] for index in labels]
        schemas = [_make_schema("entities", LABELS, names)] if names else []
        schemas += [self.relations[index] for index in relations]
        schemas += [self.classes[index] for index in classes]
        words = [word for schema in schemas for word in (*schema, "[SEP_STRUCT]")]
        words[-1] = self.spec.text_marker
        ids, counts = self.tokenizer.encode(words)
        texts = tuple(self.prompts[index] for index in labels)
        return Prompt(labels, texts, len(ids), [*ids], tuple(counts), relations, classes)


def _clean_classes(tasks: Tasks, tokenizer: Tokenizer) -> tuple[tuple[Schema, ...], Sequence[str]]:
    schemas, warnings = [], []
    for question, of in tasks.classifications.items():
        [name, *names], more = clean_texts("class", (question, *of.labels), tokenizer)
        texts, of_texts = clean_texts("description", (text or "" for text in of.labels.values()), tokenizer)
        schemas.append(_make_schema(name, CLASSES, [*zip(names, texts, strict=True)]))
        warnings += [*more, *of_texts]
    return tuple(schemas), warnings


def _make_schema(question: str, marker: str, names: Sequence[tuple[str, str]]) -> Schema:
    """Return the words of a schema that asks for names, each with its description or ""."""
    described = "".join(f" [DESCRIPTION] {name}: {text}" for name, text in names if text)
    fields = (word for name, _ in names for word in (marker, name))
    return ("(", "[P]", question + described, "(", *fields, ")", ")")
