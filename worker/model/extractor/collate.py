"""Windows -> padded arrays for an extractor: tokens, and the places of words and of the schema's markers. Pure.

A row is a schema for each question, then the text. A schema is `( [P] question ( [E] label [E] label ) )`: the
vector of `[P]` stands for the question, that of the marker before each label for the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.protocols import Window, row_length

FULL_STOPS = (".", "!", "?")
"""Ends of a text; the library puts a full stop after any other, and so does `collate_windows`."""
Arrays = Mapping[str, NDArray[Any]]


class Group(NamedTuple):
    """A schema that asks for spans: the labels, or one relation with its head and tail.

    Attributes:
        row: index of its window.
        relation: index of the relation in the window's; None if it asks for labels.
        question: index of the token `[P]`.
        first: index of its first marker among the row's.
        size: number of its markers.
    """

    row: int
    relation: int | None
    question: int
    first: int
    size: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch.

    Attributes:
        windows: its windows.
        arrays: `input_ids` and `attention_mask` of (row, token); the tokens of `words`, of the `markers` of spans,
            and of the markers of `classes`, of (row, number), 0 after the last; the number of each in a row as
            `word_counts`, `marker_counts` and `class_counts`.
        groups: the schemas that ask for spans.
    """

    windows: tuple[Window, ...]
    arrays: Arrays
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class RowTokens:
    """Properties of a tokenizer that rows depend on.

    Attributes:
        pad_id: id of the padding token.
        full_stop: tokens of a full stop.
        longest: tokens that a row may have.
    """

    pad_id: int
    full_stop: tuple[int, ...]
    longest: int


class _Row(NamedTuple):
    """A window's tokens, and the places in them; `groups` are (place of `[P]`, number of markers)."""

    ids: Sequence[int]
    words: Sequence[int]
    markers: Sequence[int]
    classes: Sequence[int]
    groups: Sequence[tuple[int, int]]


def collate_windows(windows: Sequence[Window], layout: RowTokens) -> Batch:
    """Return the inputs for a micro-batch, padded to a multiple of a step.

    Raises:
        RuntimeError: a row's tokens differ from the number counted when its text was cut.
    """
    rows = [_place_row(window, layout) for window in windows]
    ids = _pad([row.ids for row in rows], layout.pad_id, layout.longest)
    lengths = np.array([len(row.ids) for row in rows])
    arrays = {
        "input_ids": ids,
        "attention_mask": (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64),
    }
    for name, count, places in (
        ("words", "word_counts", [row.words for row in rows]),
        ("markers", "marker_counts", [row.markers for row in rows]),
        ("classes", "class_counts", [row.classes for row in rows]),
    ):
        arrays[name] = _pad(places, 0)
        arrays[count] = np.array([*map(len, places)])
    return Batch(tuple(windows), arrays, tuple(_number_groups(rows, windows)))


def _place_row(window: Window, layout: RowTokens) -> _Row:
    counts, token_ids = window.tokens_per_word, list(window.token_ids)
    if sum(counts) != len(token_ids):
        raise RuntimeError("a window's tokens were counted wrong")
    offsets = [*accumulate(counts, initial=0)]
    markers: list[int] = []
    classes: list[int] = []
    groups: list[tuple[int, int]] = []
    word = 0
    for size, for_spans in _list_schemas(window):
        places = [offsets[word + 4 + 2 * number] for number in range(size)]
        if for_spans:
            groups.append((offsets[word + 1], size))
            markers += places
        else:
            classes += places
        word += 7 + 2 * size  # with the separator that follows
    first = len(counts) - len(window.words)
    if word != first:
        raise RuntimeError("a window's schemas were counted wrong")
    ids = token_ids[: layout.longest - len(layout.full_stop)]
    words = [at for at in offsets[first:-1] if at < len(ids)]
    if not window.words[-1].endswith(FULL_STOPS):
        words.append(len(ids))
        ids += layout.full_stop
    return _Row(ids, words, markers, classes, groups)


def _list_schemas(window: Window) -> Iterator[tuple[int, bool]]:
    """Yield the number of markers of each schema, and whether it asks for spans."""
    if window.prompts:
        yield len(window.prompts), True
    for _ in window.relations:
        yield 2, True
    for question in window.classes:
        yield len(question.labels), False


def _number_groups(rows: Sequence[_Row], windows: Sequence[Window]) -> Iterator[Group]:
    for index, (row, window) in enumerate(zip(rows, windows, strict=True)):
        first, relation = 0, -1 if window.prompts else 0
        for question, size in row.groups:
            yield Group(index, None if relation < 0 else relation, question, first, size)
            first += size
            relation += 1


def _pad(rows: Sequence[Sequence[int]], value: int, longest: int = 0) -> NDArray[np.int64]:
    """Return rows as an array; with a `longest`, its width is one of few."""
    width = max(map(len, rows), default=0)
    padded = np.full((len(rows), min(row_length(width), longest) if longest else width), value, np.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
