"""Estimates the work that documents cost a model, before any model sees them. Pure.

Labels that do not fit into half of a model's row take several passes over the text, and each pass costs as much as
the text. So a cost is in characters: those of the text, times the passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from jobs.schema import Document, Labels

ROW_TOKENS = 512
"""Tokens per row of common models; a text and its labels that fit into one row need one pass."""
TOKEN_BYTES = 3
"""UTF-8 bytes per label token: a low estimate, since random letters have fewer than words."""
MARKER_TOKENS = 2
FREE_TOKENS = 64
"""Label tokens that add nothing to the cost of a short text: about fifteen labels."""
CHARACTERS_PER_TOKEN = 4
CACHED_LABEL_SETS = 64
_WEIGHT = 4
_WEIGHT_ADDED = 8 * 1024


@dataclass(frozen=True, slots=True)
class LabelCost:
    """The cost that a set of labels adds to each text.

    Attributes:
        tokens: tokens of the prompt with all labels.
        passes: passes over a text that does not fit into one row with them.
    """

    tokens: int
    passes: int

    def text_cost(self, characters: int) -> int:
        """Return the cost of a text in characters: at least that of its labels, which are read with every text."""
        whole = self.tokens + characters // CHARACTERS_PER_TOKEN <= ROW_TOKENS
        floor = max(0, self.tokens - FREE_TOKENS) * CHARACTERS_PER_TOKEN
        return max(characters * (1 if whole else self.passes), floor)


def label_cost(labels: Labels) -> LabelCost:
    """Return the cost of labels, grouped into passes as `worker.text.prompts` does."""
    costs = [MARKER_TOKENS + -(-len((text or name).encode()) // TOKEN_BYTES) for name, text in labels.items()]
    passes, taken = 1, 0
    for cost in costs:
        if taken and taken + cost > ROW_TOKENS // 2:
            passes, taken = passes + 1, 0
        taken += cost
    return LabelCost(sum(costs), passes)


class Costs:
    """Computes the costs of a job's documents; a document's own labels replace the job's.

    Args:
        labels: the job's labels.
    """

    def __init__(self, labels: Labels) -> None:
        self._of_labels = lru_cache(CACHED_LABEL_SETS)(lambda items: label_cost(dict(items)))
        self._job = label_cost(labels)

    def document_cost(self, document: Document) -> int:
        """Return a document's cost in characters; 0 if it has already failed."""
        if document.error is not None:
            return 0
        labels = document.labels
        cost = self._job if labels is None else self._of_labels(tuple(labels.items()))
        return cost.text_cost(len(document.text))

    def shard_weight(self, document: Document) -> int:
        """Return a document's weight for cutting shards: its cost, limited so that a job has few shards."""
        return min(self.document_cost(document), _WEIGHT * len(document.text) + _WEIGHT_ADDED)
