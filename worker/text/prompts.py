"""Encodes labels as prompts, and groups them by how many fit into one row. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from jobs.schema import DocumentError, DocumentErrorCode, Labels
from worker.protocols import ModelSpec, Tokenizer
from worker.text.words import Text

MIN_TEXT_SHARE = 8
"""A label is rejected if its prompt leaves the text less than one part in this many of a row."""
MAX_LISTED = 5
"""Labels that a warning lists."""
MAX_CACHED_SETS = 32
"""Sets of labels whose prompts are cached, least recently used first out."""


class Prompt(NamedTuple):
    """The labels that one row asks for.

    Attributes:
        labels: indexes of the labels.
        texts: text that asks the model for each.
        cost: tokens of all of them, markers included.
        token_ids: tokens of the prompt, the text marker included.
        tokens_per_word: number of tokens of each word of the prompt.
    """

    labels: tuple[int, ...]
    texts: tuple[str, ...]
    cost: int
    token_ids: list[int]
    tokens_per_word: tuple[int, ...]


@dataclass(frozen=True)
class LabelPrompts:
    """The texts that ask the model for labels: a label's description if it has one, as gliner does it.

    Attributes:
        costs: tokens of each label in the prompt, its marker included.
        token_ids: tokens of the label marker, of the text marker, and of each prompt.
        fixed_tokens: tokens of a row that are neither label nor text.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    costs: tuple[int, ...]
    token_ids: tuple[tuple[int, ...], ...]
    fixed_tokens: int
    spec: ModelSpec
    warnings: tuple[str, ...]

    @classmethod
    def encode(cls, labels: Labels, tokenizer: Tokenizer) -> LabelPrompts:
        """Encode labels and descriptions as prompts."""
        spec = tokenizer.spec
        markers = (spec.label_marker, spec.text_marker)
        prompts, warnings = [], []
        for name, description in labels.items():
            prompt = description or name
            for marker in {*markers, *tokenizer.reserved}:  # the model would read it as the end of the labels
                if marker in prompt:
                    prompt = prompt.replace(marker, " ")
                    warnings.append("A label contains a special token of the model, which was removed from it.")
            prompts.append(prompt.strip() and prompt)
        ids, counts = tokenizer.encode([*markers, *prompts])
        unreadable = [i + 1 for i, count in enumerate(counts[len(markers) :]) if not count]
        if unreadable:  # an empty prompt takes the results of all other labels
            numbers = ", ".join(map(str, unreadable[:MAX_LISTED]))
            numbers += ", ..." if len(unreadable) > MAX_LISTED else ""
            warnings.append(f"Label {numbers}: the model cannot read it, so it was ignored.")
        ends = list(accumulate(counts, initial=0))
        label_marker, text_marker, *costs = counts
        return cls(
            names=tuple(labels),
            prompts=tuple(prompts),
            costs=tuple(label_marker + cost for cost in costs),
            token_ids=tuple(tuple(ids[first:last]) for first, last in pairwise(ends)),
            fixed_tokens=spec.special_tokens + text_marker,
            spec=spec,
            warnings=tuple(dict.fromkeys(warnings)),
        )

    @cached_property
    def full_prompt(self) -> Prompt:
        """The prompt for all labels at once."""
        return self._make_prompt(self.readable_labels)

    @cached_property
    def readable_labels(self) -> tuple[int, ...]:
        """Indexes of the labels that have a token; the rest is ignored."""
        return tuple(i for i, ids in enumerate(self.token_ids[2:]) if ids)

    @cached_property
    def has_distinct_prompts(self) -> bool:
        """True if no two labels have the same prompt."""
        return len({self.prompts[i] for i in self.readable_labels}) == len(self.readable_labels)

    @property
    def free_tokens(self) -> int:
        """Tokens of a row that are left for labels and text."""
        return self.spec.max_row_tokens - self.fixed_tokens

    def _make_prompt(self, labels: tuple[int, ...]) -> Prompt:
        label_marker, text_marker, *prompts = self.token_ids
        words = [*(word for i in labels for word in (label_marker, prompts[i])), text_marker]
        return Prompt(
            labels,
            tuple(self.prompts[i] for i in labels),
            sum(self.costs[i] for i in labels),
            [*chain.from_iterable(words)],
            tuple(map(len, words)),
        )

    def group_passes(self, text: Text) -> list[Prompt] | DocumentError:
        """Return groups of labels to ask for together: all at once if they fit with the text or into half a row."""
        free = self.free_tokens
        if not self.readable_labels:
            return DocumentError(DocumentErrorCode.INVALID_DOCUMENT, "The model can read none of the labels.")
        if self.has_distinct_prompts and text.fits_row(0, len(text.words), free - self.full_prompt.cost):
            return [self.full_prompt]
        groups: list[list[int]] = [[]]
        used, prompts = 0, set[str]()
        for i in self.readable_labels:
            cost = self.costs[i]
            if free - cost < self.spec.max_row_tokens // MIN_TEXT_SHARE:
                return DocumentError(
                    DocumentErrorCode.INPUT_TOO_LONG,
                    f"Label {i + 1} takes {cost} tokens; the model reads {self.spec.max_row_tokens} at once.",
                )
            if groups[-1] and (used + cost > free // 2 or self.prompts[i] in prompts):
                groups.append([])
                used, prompts = 0, set[str]()
            groups[-1].append(i)
            used += cost
            prompts.add(self.prompts[i])
        return [self._make_prompt(tuple(group)) for group in groups]


PromptEncoder = Callable[[Labels, Tokenizer], LabelPrompts]


def cache_prompts(tokenizer: Tokenizer) -> PromptEncoder:
    """Return `LabelPrompts.encode` for this tokenizer with a cache of the latest sets of labels."""
    encode = lru_cache(MAX_CACHED_SETS)(lambda labels: LabelPrompts.encode(dict(labels), tokenizer))
    return lambda labels, _: encode(tuple(labels.items()))
