"""Pairs of windows' spans -> relations of a document's entities."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.protocols import Pair, Span, SpanKey
from worker.text.bounds import Budget
from worker.text.prompts.base import Prompt
from worker.text.relations import EntityPair, Pairs
from worker.text.windows import WindowPosition
from worker.text.words import WindowKind

KEYS: st.SearchStrategy[SpanKey] = st.tuples(st.integers(0, 20), st.integers(1, 4), st.integers(0, 1)).map(
    lambda key: (key[0], key[0] + key[1], key[2])
)
FOUND = st.lists(
    st.tuples(st.integers(0, 2), KEYS, KEYS, st.floats(0, 1)).map(lambda values: Pair(*values)), max_size=20
)


def at_word(first: int) -> WindowPosition:
    """Return a window whose labels and relations have indexes other than the document's."""
    return WindowPosition(first, first + 30, WindowKind.LARGE, Prompt((1, 0), (), 0, [], (), (2, 0, 1)))


def map_pairs(pairs: list[Pair], entities: list[Span], first: int = 0, limit: int = 100) -> list[EntityPair]:
    """Return the relations between entities of one window."""
    collected = Pairs(limit)
    collected.add(pairs, at_word(first))
    return collected.map_to_entities(entities, Budget())


def test_pairs_have_the_documents_words_labels_and_relations() -> None:
    """Of equal pairs in several windows the best score counts."""
    pairs = Pairs(9)
    pairs.add([Pair(0, (5, 6, 0), (8, 10, 1), 0.6)], at_word(100))
    pairs.add([Pair(0, (3, 4, 0), (6, 8, 1), 0.8)], at_word(102))
    entities = [Span(108, 110, 0, 0.9), Span(105, 106, 1, 0.9)]
    assert pairs.map_to_entities(entities, Budget()) == [EntityPair(2, 1, 0, 0.8)]


def test_a_lost_span_is_replaced_by_the_entity_that_covers_most_of_it() -> None:
    """Only by one of its label; without one the pair is left out."""
    entities = [Span(0, 2, 1, 0.9), Span(2, 6, 1, 0.8), Span(10, 12, 0, 0.7), Span(20, 22, 0, 0.7)]
    lost = Pair(0, (1, 4, 0), (10, 12, 1), 0.6)
    assert map_pairs([lost], entities) == [EntityPair(2, 1, 2, 0.6)]
    assert map_pairs([lost._replace(head=(1, 4, 1))], entities) == []
    assert map_pairs([lost._replace(tail=(2, 3, 0))], entities) == []  # both became the same entity


@given(FOUND, st.lists(KEYS, max_size=8, unique=True))
def test_every_relation_connects_entities_that_its_spans_became(pairs: list[Pair], keys: list[SpanKey]) -> None:
    """Entities of the spans' labels that share a word with them; once, with a score that a pair has."""
    entities = [Span(*key, 0.5) for key in keys]
    relations = map_pairs(pairs, entities)
    assert len({relation[:3] for relation in relations}) == len(relations)
    assert [relation.score for relation in relations] == sorted((r.score for r in relations), reverse=True)

    def may_become(key: SpanKey, entity: Span) -> bool:
        return (1, 0)[key[2]] == entity.label and max(key[0], entity.start) < min(key[1], entity.end)

    for relation, head, tail, score in relations:
        assert head != tail
        assert any(
            (2, 0, 1)[pair.relation] == relation
            and pair.score == score
            and may_become(pair.head, entities[head])
            and may_become(pair.tail, entities[tail])
            for pair in pairs
        )


@given(FOUND)
def test_pairs_of_entities_are_all_kept(pairs: list[Pair]) -> None:
    """If every span is an entity, only pairs of one with itself are left out."""
    keys = {key for pair in pairs for key in (pair.head, pair.tail)}
    entities = [Span(start, end, (1, 0)[label], 0.5) for start, end, label in sorted(keys)]
    expected = {(pair.relation, pair.head, pair.tail) for pair in pairs if pair.head != pair.tail}
    assert len(map_pairs(pairs, entities)) == len(expected)


@given(st.lists(st.floats(0, 1), max_size=40))
def test_of_too_many_pairs_the_best_are_kept(scores: list[float]) -> None:
    """At most twice as many as are needed are in memory, and the number of the others is known."""
    pairs = Pairs(3)
    for number, score in enumerate(scores):
        pairs.add([Pair(0, (number, number + 1, 0), (number + 1, number + 2, 0), score)], at_word(0))
    entities = [Span(number, number + 1, 1, 0.5) for number in range(len(scores) + 1)]
    relations = pairs.map_to_entities(entities, Budget())
    assert len(relations) <= 2 * 3
    assert len(relations) + pairs.left_out == len(scores)
    best = sorted(scores, reverse=True)[:3]
    assert [relation.score for relation in relations][:3] == best
