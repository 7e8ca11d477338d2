"""Prompts of gliner's uni-encoders: labels, and for some models relations, in front of the text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise

from jobs.schema import DocumentError, DocumentErrorCode
from jobs.tasks import Tasks
from worker.protocols import PromptFormat, Tokenizer
from worker.text.prompts.base import Prompt, TaskPrompts, clean_texts, warn_unreadable
from worker.text.words import Text

MIN_TEXT_SHARE = 8
"""A label is rejected if its prompt leaves the text less than one part in this many of a row."""


@dataclass(frozen=True)
class LabelPrompts(TaskPrompts):
    """Labels and relations, each after its marker: by its description if it has one, as gliner does it.

    Attributes:
        label_tokens: tokens of each label, its marker included.
        relation_tokens: tokens of each relation, its marker included.
        end_tokens: tokens of the text marker.
    """

    label_tokens: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    relation_tokens: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    end_tokens: tuple[int, ...]

    @classmethod
    def encode(cls, tasks: Tasks, tokenizer: Tokenizer) -> LabelPrompts:
        """Encode labels, relations and their descriptions as prompts."""
        spec = tokenizer.spec
        labels, warnings = clean_texts("label", (text or name for name, text in tasks.labels.items()), tokenizer)
        relations, more_warnings = clean_texts(
            "relation", (question.description or name for name, question in tasks.relations.items()), tokenizer
        )
        markers = (spec.text_marker, spec.label_marker, spec.relation_marker)
        ids, counts = tokenizer.encode([*markers, *labels, *relations])
        ends = list(accumulate(counts, initial=0))
        text_marker, label_marker, relation_marker, *questions = (
            tuple(ids[first:last]) for first, last in pairwise(ends)
        )
        label_counts, relation_counts = counts[3 : 3 + len(labels)], counts[3 + len(labels) :]
        warnings += [*warn_unreadable("label", label_counts), *more_warnings]
        warnings += warn_unreadable("relation", relation_counts)
        text_markers = 2 if spec.prompt_format is PromptFormat.RELATIONS else 1
        return cls(
            tasks,
            spec,
            tuple(labels),
            tuple(text if count else "" for text, count in zip(relations, relation_counts, strict=True)),
            spec.special_tokens + text_markers * len(text_marker),
            tuple(warnings),
            tuple((label_marker, tokens) for tokens in questions[: len(labels)]),
            tuple((relation_marker, tokens) for tokens in questions[len(labels) :]),
            text_marker,
        )

    @cached_property
    def costs(self) -> tuple[int, ...]:
        """Tokens of each label in the prompt, its marker included."""
        return tuple(sum(map(len, words)) for words in self.label_tokens)

    @cached_property
    def full_prompt(self) -> Prompt:
        """The prompt for all labels at once."""
        return self._make_prompt(self.readable_labels)

    @cached_property
    def readable_labels(self) -> tuple[int, ...]:
        """Indexes of the labels that have a token; the rest is ignored."""
        return tuple(i for i, (_, tokens) in enumerate(self.label_tokens) if tokens)

    @cached_property
    def has_distinct_prompts(self) -> bool:
        """True if no two labels have the same prompt."""
        return len({self.prompts[i] for i in self.readable_labels}) == len(self.readable_labels)

    def _make_prompt(self, labels: tuple[int, ...]) -> Prompt:
        relations = self.select_relations(labels)
        questions = [*chain.from_iterable(self.label_tokens[i] for i in labels), self.end_tokens]
        if self.spec.prompt_format is PromptFormat.RELATIONS:
            questions += [*chain.from_iterable(self.relation_tokens[i] for i in relations), self.end_tokens]
        return Prompt(
            labels,
            tuple(self.prompts[i] for i in labels),
            sum(self.costs[i] for i in labels) + self._count_relation_tokens(relations),
            [*chain.from_iterable(questions)],
            tuple(map(len, questions)),
            relations,
        )

    def _count_relation_tokens(self, relations: tuple[int, ...]) -> int:
        return sum(len(tokens) for i in relations for tokens in self.relation_tokens[i])

    def group_passes(self, text: Text) -> list[Prompt] | DocumentError:
        """Return groups of labels to ask for together: all at once if they fit with the text or into half a row.

        Each group also asks for the relations that its labels may have.
        """
        if not self.readable_labels:
            return DocumentError(DocumentErrorCode.INVALID_DOCUMENT, "The model can read none of the labels.")
        if self.has_distinct_prompts and text.fits_row(
            0, len(text.words), self.free_tokens - self.full_prompt.cost
        ):
            return [self.full_prompt]
        relation_cost = self._count_relation_tokens(self.full_prompt.relations)
        free = self.free_tokens - relation_cost
        if relation_cost > free:
            return self._too_long(f"The relations take {relation_cost} tokens")
        groups: list[list[int]] = [[]]
        used, prompts = 0, set[str]()
        for i in self.readable_labels:
            cost = self.costs[i]
            if free - cost < self.spec.max_row_tokens // MIN_TEXT_SHARE:
                return self._too_long(f"Label {i + 1} takes {cost} tokens")
            if groups[-1] and (used + cost > free // 2 or self.prompts[i] in prompts):
                groups.append([])
                used, prompts = 0, set[str]()
            groups[-1].append(i)
            used += cost
            prompts.add(self.prompts[i])
        return [self._make_prompt(tuple(group)) for group in groups]

    def _too_long(self, reason: str) -> DocumentError:
        detail = f"{reason}; the model reads {self.spec.max_row_tokens} at once."
        return DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail)
