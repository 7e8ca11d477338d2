"""Estimates the work that documents cost a model, before any model sees them. Pure.

Prompts (of labels, relations and classes) that do not fit into half of a model's row take several passes over the
text, and each pass costs as much as the text. So a cost is in characters: those of the text, times the passes. For
a model that compares words with vectors of labels, which needs one pass, it is an overestimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from jobs.schema import Document
from jobs.tasks import Tasks

ROW_TOKENS = 512
"""Tokens per row of common models; a text and its labels that fit into one row need one pass."""
TOKEN_BYTES = 3
"""UTF-8 bytes per token of a prompt: a low estimate, since random letters have fewer than words."""
MARKER_TOKENS = 2
SCHEMA_TOKENS = 12
"""Tokens around a relation, or a classification's name, in GLiNER2, where each is a schema; elsewhere fewer."""
FREE_TOKENS = 64
"""Prompt tokens that add nothing to the cost of a short text: about fifteen labels."""
CHARACTERS_PER_TOKEN = 4
CACHED_SETS = 64
MAX_CACHED_PROMPTS = 256
"""Prompts of a set whose cost is cached; the cache holds their texts, and a document may have thousands."""
_WEIGHT = 4
_WEIGHT_ADDED = 8 * 1024


@dataclass(frozen=True, slots=True)
class PromptCost:
    """The cost that prompts add to each text.

    Attributes:
        tokens: tokens of all prompts.
        passes: passes over a text that does not fit into one row with them.
    """

    tokens: int
    passes: int

    def text_cost(self, characters: int) -> int:
        """Return the cost of a text in characters: at least that of its prompts, which are read with it."""
        whole = self.tokens + characters // CHARACTERS_PER_TOKEN <= ROW_TOKENS
        floor = max(0, self.tokens - FREE_TOKENS) * CHARACTERS_PER_TOKEN
        return max(characters * (1 if whole else self.passes), floor)


def prompt_cost(prompts: Iterable[tuple[str, int]]) -> PromptCost:
    """Return the cost of prompts, grouped into passes as `worker.text.prompts` does.

    Args:
        prompts: each text, and the number of tokens around it.
    """
    costs = [around + -(-len(text.encode()) // TOKEN_BYTES) for text, around in prompts]
    passes, taken = 1, 0
    for cost in costs:
        if taken and taken + cost > ROW_TOKENS // 2:
            passes, taken = passes + 1, 0
        taken += cost
    return PromptCost(sum(costs), passes)


def iterate_prompts(tasks: Tasks) -> Iterator[tuple[str, int]]:
    """Yield the texts that ask a model for the tasks (descriptions, or names), and the tokens around each."""
    for label, description in tasks.labels.items():
        yield description or label, MARKER_TOKENS
    for name, relation in tasks.relations.items():
        yield relation.description or name, SCHEMA_TOKENS
    for name, classification in tasks.classifications.items():
        yield name, SCHEMA_TOKENS
        for label, description in classification.labels.items():
            yield description or label, MARKER_TOKENS


class Costs:
    """Computes the costs of a job's documents; a document's own tasks replace the job's.

    Args:
        tasks: the job's tasks.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._of_prompts = lru_cache(CACHED_SETS)(prompt_cost)
        self._job = prompt_cost(iterate_prompts(tasks))

    def document_cost(self, document: Document) -> int:
        """Return a document's cost in characters; 0 if it has already failed."""
        if document.error is not None:
            return 0
        tasks = document.choose_tasks(self._tasks)
        if tasks is self._tasks:
            return self._job.text_cost(len(document.text))
        prompts = tuple(iterate_prompts(tasks))
        compute_cost = self._of_prompts if len(prompts) <= MAX_CACHED_PROMPTS else prompt_cost
        return compute_cost(prompts).text_cost(len(document.text))

    def shard_weight(self, document: Document) -> int:
        """Return a document's weight for cutting shards: its cost, limited so that a job has few shards."""
        return min(self.document_cost(document), _WEIGHT * len(document.text) + _WEIGHT_ADDED)
