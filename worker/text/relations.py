"""Relations of a document: pairs of its windows' spans -> pairs of its entities. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import attrgetter, itemgetter
from typing import NamedTuple

from worker.protocols import Pair, Span, SpanKey
from worker.text.bounds import Budget
from worker.text.windows import WindowPosition


class EntityPair(NamedTuple):
    """A relation between two entities: index of the relation, indexes of its entities, and its score."""

    relation: int
    head: int
    tail: int
    score: float


class Pairs:
    """The pairs of all windows in the document's words, labels and relations; of equal ones the best.

    Args:
        limit: pairs that are kept at least, those of the highest scores; never more than twice as many.

    Attributes:
        left_out: number of pairs that were omitted.
    """

    def __init__(self, limit: int) -> None:
        self.left_out = 0
        self._limit = limit
        self._scores: dict[tuple[int, SpanKey, SpanKey], float] = {}

    def add(self, pairs: Iterable[Pair], position: WindowPosition) -> None:
        """Add a window's pairs."""
        first, labels, relations = position.first, position.labels, position.prompt.relations

        def move(span: SpanKey) -> SpanKey:
            return first + span[0], first + span[1], labels[span[2]]

        for pair in pairs:
            key = relations[pair.relation], move(pair.head), move(pair.tail)
            self._scores[key] = max(pair.score, self._scores.get(key, 0.0))
        if len(self._scores) > 2 * self._limit:
            self.left_out += len(self._scores) - self._limit
            self._scores = dict(nlargest(self._limit, self._scores.items(), key=itemgetter(1)))

    def map_to_entities(self, entities: Sequence[Span], budget: Budget) -> list[EntityPair]:
        """Return the relations between entities, the best first; of equal ones the best.

        A pair belongs to the entities that its spans became. A span that became none, since it lost against an
        overlapping one or was merged with its neighbours, is replaced by the entity of its label that covers most
        of its words. Without such an entity the pair is left out, and so is a relation of an entity with itself.
        """
        finder = _EntityFinder(entities, budget)
        best: dict[tuple[int, int, int], float] = {}
        for (relation, head, tail), score in budget.iterate(self._scores.items()):
            ends = finder.find(head), finder.find(tail)
            if ends[0] is None or ends[1] is None or ends[0] == ends[1]:
                continue
            key = relation, ends[0], ends[1]
            best[key] = max(score, best.get(key, 0.0))
        pairs = [EntityPair(*key, score) for key, score in best.items()]
        return sorted(pairs, key=attrgetter("score"), reverse=True)


class _EntityFinder:
    """Finds the entity that a span became; the index by words is built only if an entity has other words."""

    def __init__(self, entities: Sequence[Span], budget: Budget) -> None:
        self._entities = entities
        self._budget = budget
        self._indexes: dict[SpanKey, int | None] = {span[:3]: index for index, span in enumerate(entities)}
        self._by_word: defaultdict[tuple[int, int], list[int]] | None = None

    def find(self, span: SpanKey) -> int | None:
        """Return the entity's index, or None."""
        if span not in self._indexes:
            self._indexes[span] = self._find_overlapping(*span)
        return self._indexes[span]

    def _find_overlapping(self, start: int, end: int, label: int) -> int | None:
        if self._by_word is None:
            self._by_word = defaultdict(list)
            for index, entity in enumerate(self._budget.iterate(self._entities)):
                for word in range(entity.start, entity.end):
                    self._by_word[word, entity.label].append(index)
        overlaps: defaultdict[int, int] = defaultdict(int)
        for word in range(start, end):
            for index in self._by_word.get((word, label), ()):
                overlaps[index] += 1
        if not overlaps:
            return None
        return max(overlaps, key=lambda index: (overlaps[index], self._entities[index].score, -index))
