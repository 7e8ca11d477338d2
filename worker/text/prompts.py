"""Labels as the model is asked for them, and how many fit into one row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from jobs.schema import DocumentError, DocumentErrorCode, Labels
from worker.protocols import ModelSpec, Tokenizer
from worker.text.words import Text

MIN_TEXT_SHARE = 8
"""A label whose prompt leaves the text less than one part in so many of a row is refused."""
LISTED = 5
"""Labels that a warning lists."""
SETS_KEPT = 32
"""Sets of labels that are remembered, those asked for last."""


class Prompt(NamedTuple):
    """What one row asks for.

    Attributes:
        labels: which of all labels, by their places.
        texts: as what the model is asked for each.
        cost: word pieces of them all, their markers included.
        ids: the prompt's pieces, the text's marker included.
        counts: how many of them each word of the prompt has.
    """

    labels: tuple[int, ...]
    texts: tuple[str, ...]
    cost: int
    ids: list[int]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """The labels as the model is asked for them: a description where there is one, as gliner does it.

    Attributes:
        costs: word pieces of each label in the prompt, its marker included.
        pieces: the ids of the label marker's pieces, of the text marker's, and of each prompt's.
        fixed: word pieces of a row that are neither label nor text.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    costs: tuple[int, ...]
    pieces: tuple[tuple[int, ...], ...]
    fixed: int
    spec: ModelSpec
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, labels: Labels, tokenizer: Tokenizer) -> Asked:
        """Labels and descriptions as prompts, counted."""
        spec = tokenizer.spec
        marks = (spec.label_marker, spec.text_marker)
        prompts, warnings = [], []
        for name, description in labels.items():
            prompt = description or name
            for mark in {*marks, *tokenizer.reserved}:  # the model would take it for an end of labels, or of all
                if mark in prompt:
                    prompt = prompt.replace(mark, " ")
                    warnings.append("A label holds a marker of the model's own; it was asked for without it.")
            prompts.append(prompt.strip() and prompt)
        ids, counts = tokenizer.encode([*marks, *prompts])
        mute = [i + 1 for i, count in enumerate(counts[len(marks) :]) if not count]
        if mute:  # an empty prompt takes the answers of all others
            which = ", ".join(map(str, mute[:LISTED])) + (", ..." if len(mute) > LISTED else "")
            warnings.append(f"Label {which}: the model cannot read it, and it was not asked for.")
        ends = list(accumulate(counts, initial=0))
        marker, text_marker, *costs = counts
        return cls(
            names=tuple(labels),
            prompts=tuple(prompts),
            costs=tuple(marker + cost for cost in costs),
            pieces=tuple(tuple(ids[first:last]) for first, last in pairwise(ends)),
            fixed=spec.special_tokens + text_marker,
            spec=spec,
            warnings=tuple(dict.fromkeys(warnings)),
        )

    @cached_property
    def everything(self) -> Prompt:
        """The prompt for all labels at once."""
        return self._prompt(self.readable)

    @cached_property
    def readable(self) -> tuple[int, ...]:
        """The labels that have a token; the others are not asked for."""
        return tuple(i for i, ids in enumerate(self.pieces[2:]) if ids)

    @cached_property
    def distinct(self) -> bool:
        """True where no two labels are asked for alike."""
        return len({self.prompts[i] for i in self.readable}) == len(self.readable)

    def _prompt(self, labels: tuple[int, ...]) -> Prompt:
        """The prompt for some of the labels."""
        marker, text_marker, *prompts = self.pieces
        words = [*(word for i in labels for word in (marker, prompts[i])), text_marker]
        return Prompt(
            labels,
            tuple(self.prompts[i] for i in labels),
            sum(self.costs[i] for i in labels),
            [*chain.from_iterable(words)],
            tuple(map(len, words)),
        )

    def room(self, passes: Sequence[Prompt]) -> int:
        """Word pieces left for the text beside the largest prompt."""
        return self.spec.max_row_tokens - self.fixed - max(prompt.cost for prompt in passes)

    def passes(self, text: Text) -> list[Prompt] | DocumentError:
        """Return groups of labels to ask for together: all at once if they fit beside the text or in half a row."""
        free = self.spec.max_row_tokens - self.fixed
        if not self.readable:
            return DocumentError(DocumentErrorCode.INVALID_DOCUMENT, "The model can read none of the labels.")
        if self.distinct and text.fits(0, len(text.words), free - self.everything.cost):
            return [self.everything]
        groups: list[list[int]] = [[]]
        taken, prompts = 0, set[str]()
        for i in self.readable:
            cost = self.costs[i]
            if free - cost < self.spec.max_row_tokens // MIN_TEXT_SHARE:
                return DocumentError(
                    DocumentErrorCode.INPUT_TOO_LONG,
                    f"Label {i + 1} takes {cost} word pieces; the model reads {self.spec.max_row_tokens} at once.",
                )
            if groups[-1] and (taken + cost > free // 2 or self.prompts[i] in prompts):
                groups.append([])
                taken, prompts = 0, set[str]()
            groups[-1].append(i)
            taken += cost
            prompts.add(self.prompts[i])
        return [self._prompt(tuple(group)) for group in groups]


Ask = Callable[[Labels, Tokenizer], Asked]


def remembering(tokenizer: Tokenizer) -> Ask:
    """`Asked.of` for this tokenizer, which counts a set of labels once."""
    kept = lru_cache(SETS_KEPT)(lambda labels: Asked.of(dict(labels), tokenizer))
    return lambda labels, _: kept(tuple(labels.items()))
