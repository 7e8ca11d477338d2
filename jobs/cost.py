"""About how much of a model's work documents ask for, estimated before any model sees them. Pure.

Labels that do not fit into half of a model's row are asked for in several passes over the text, and each pass costs
as much as the text with labels that fit. So a cost is in characters: those of the text, times the passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from jobs.schema import Document, Labels

ROW_TOKENS = 512
"""Tokens of a row of the models that are usual; a text and its labels that fit into one need one pass."""
TOKEN_BYTES = 3
"""UTF-8 bytes of a token of a label: rather few, for random letters have less than words."""
MARKER_TOKENS = 2
FREE_TOKENS = 64
"""Tokens of labels that add nothing to a short text: about fifteen labels' worth."""
CHARACTERS_A_TOKEN = 4
"""Characters of a token of a text."""
SETS_KEPT = 64
_WEIGHT = 4
_WEIGHT_ADDED = 8 * 1024


@dataclass(frozen=True, slots=True)
class LabelCost:
    """What a set of labels adds to each text.

    Attributes:
        tokens: of the prompt for all of them.
        passes: over a text that does not fit into one row with them.
    """

    tokens: int
    passes: int

    def of_text(self, characters: int) -> int:
        """Return the cost of a text in characters: at least that of many labels, which are read with every text."""
        whole = self.tokens + characters // CHARACTERS_A_TOKEN <= ROW_TOKENS
        floor = max(0, self.tokens - FREE_TOKENS) * CHARACTERS_A_TOKEN
        return max(characters * (1 if whole else self.passes), floor)


def label_cost(labels: Labels) -> LabelCost:
    """Return what labels add to each text, as `worker.text.prompts` will group them."""
    costs = [MARKER_TOKENS + -(-len((text or name).encode()) // TOKEN_BYTES) for name, text in labels.items()]
    passes, taken = 1, 0
    for cost in costs:
        if taken and taken + cost > ROW_TOKENS // 2:
            passes, taken = passes + 1, 0
        taken += cost
    return LabelCost(sum(costs), passes)


class Costs:
    """The costs of a job's documents; a document's own labels replace the job's.

    Args:
        labels: the job's.
    """

    def __init__(self, labels: Labels) -> None:
        self._of_labels = lru_cache(SETS_KEPT)(lambda items: label_cost(dict(items)))
        self._job = label_cost(labels)

    def document_cost(self, document: Document) -> int:
        """Return a document's cost in characters; one that failed already costs nothing."""
        if document.error is not None:
            return 0
        labels = document.labels
        cost = self._job if labels is None else self._of_labels(tuple(labels.items()))
        return cost.of_text(len(document.text))

    def shard_weight(self, document: Document) -> int:
        """Return what a document counts for when shards are cut: its cost, within what keeps a job's shards few."""
        return min(self.document_cost(document), _WEIGHT * len(document.text) + _WEIGHT_ADDED)
