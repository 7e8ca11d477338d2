"""Labels as the model is asked for them, and how many fit into one row. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from jobs.schema import DocumentError, DocumentErrorCode, Labels
from worker.contract import ModelSpec, Tokenizer
from worker.text import Text

MIN_TEXT_SHARE = 8
"""A label whose prompt leaves the text less than one part in so many of a row is refused."""


@dataclass(frozen=True, slots=True)
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
            for mark in marks:  # such a label would be read as two
                if mark in prompt:
                    prompt = prompt.replace(mark, " ")
                    warnings.append("A label holds a marker of the model's own; it was asked for without it.")
            prompts.append(prompt)
        ids, counts = tokenizer.encode([*marks, *prompts])
        ends = list(accumulate(counts, initial=0))
        marker, text_marker, *costs = counts
        return cls(
            names=tuple(labels),
            prompts=tuple(prompts),
            costs=tuple(marker + cost for cost in costs),
            pieces=tuple(tuple(ids[first:last]) for first, last in pairwise(ends)),
            fixed=spec.special_pieces + text_marker,
            spec=spec,
            warnings=tuple(dict.fromkeys(warnings)),
        )

    def words(self, group: Sequence[int]) -> list[tuple[int, ...]]:
        """The pieces of each word of the prompt for a group of labels; an empty label has no word of its own."""
        marker, text_marker, *prompts = self.pieces
        marked = [word for i in group for word in ((marker, prompts[i]) if self.prompts[i] else (marker,))]
        return [*marked, text_marker]

    def room(self, passes: Sequence[tuple[int, ...]]) -> int:
        """Word pieces left for the text beside the largest prompt."""
        return self.spec.max_pieces - self.fixed - max(self.cost(group) for group in passes)

    def cost(self, group: Sequence[int]) -> int:
        """Word pieces of a group of labels in the prompt."""
        return sum(self.costs[i] for i in group)

    def passes(self, text: Text) -> list[tuple[int, ...]] | DocumentError:
        """Groups of labels to ask for together: all at once if they fit beside the text or in half a row."""
        everything = tuple(range(len(self.names)))
        distinct = len(set(self.prompts)) == len(self.prompts)
        free = self.spec.max_pieces - self.fixed
        if distinct and text.fits(0, len(text.words), free - self.cost(everything)):
            return [everything]
        groups: list[tuple[int, ...]] = []
        group: tuple[int, ...] = ()
        for i, cost in enumerate(self.costs):
            if free - cost < self.spec.max_pieces // MIN_TEXT_SHARE:
                return DocumentError(
                    DocumentErrorCode.input_too_long,
                    f"Label {i + 1} takes {cost} word pieces; the model reads {self.spec.max_pieces} at once.",
                )
            full = self.cost(group) + cost > free // 2
            if group and (full or self.prompts[i] in (self.prompts[j] for j in group)):
                groups.append(group)
                group = ()
            group = (*group, i)
        return [*groups, group]
