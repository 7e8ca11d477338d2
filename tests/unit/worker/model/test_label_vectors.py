"""Vectors of labels: each computed once, in passes of bounded size, by one thread at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.model.label_vectors import STEP_LABELS, STEP_TOKENS, LabelVectors
from worker.model.tokenizer import LabelLayout, LabelTokenizer
from worker.protocols import LabelCounts

LONGEST = 8
VECTOR_BYTES = 8


def make_tokenizer() -> LabelTokenizer:
    """Return a tokenizer of letters, with a special token at each end."""
    vocabulary = {letter: number for number, letter in enumerate(("[PAD]", "[CLS]", "[SEP]", *"abcdefghij"))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    backend.add_special_tokens(["[CLS]", "[SEP]"])
    return LabelTokenizer(LabelLayout(backend.to_str(), pad_id=0, longest=LONGEST))


class LabelEncoder:
    """Returns each row's sum of ids and length as its vector.

    Attributes:
        shapes: of every pass.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, ids: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.float32]:
        """Encode a batch."""
        self.shapes.append(ids.shape)
        return np.stack([(ids * mask).sum(1), mask.sum(1)], axis=1).astype(np.float32)


def names(count: int) -> list[str]:
    """Return different labels of five letters."""
    return ["".join(chr(ord("a") + int(digit)) for digit in f"{number:05}") for number in range(count)]


def ignore() -> None:
    """Take no notice of a step."""


def test_a_label_is_computed_once() -> None:
    """However often it is asked for, and in whatever company."""
    encoder = LabelEncoder()
    vectors = LabelVectors(make_tokenizer(), encoder)
    assert vectors.prepare(["a", "b", "a"], ignore) == LabelCounts(2, 0)
    assert vectors.prepare(["b", "c"], ignore) == LabelCounts(1, 1)
    assert vectors.stack(["c", "a", "c"]).tolist() == [[8, 3], [6, 3], [8, 3]]
    assert sum(rows for rows, _ in encoder.shapes) == 3


def test_thousands_of_labels_are_computed_in_passes_of_bounded_size() -> None:
    """A step is reported after each, so that nobody takes the model for hung."""
    encoder, steps = LabelEncoder(), []
    vectors = LabelVectors(make_tokenizer(), encoder)
    assert vectors.prepare(names(2000), lambda: steps.append(1)) == LabelCounts(2000, 0)
    assert len(steps) == len(encoder.shapes) > 5
    assert all(rows <= STEP_LABELS and rows * length <= STEP_TOKENS for rows, length in encoder.shapes)


def test_a_label_alone_may_exceed_the_size_of_a_pass() -> None:
    """Of a label longer than the encoder reads its beginning is read."""
    encoder = LabelEncoder()
    tokenizer = make_tokenizer()
    assert tokenizer.count_tokens(["abc", "a" * 100]) == [3, 100]
    assert LabelVectors(tokenizer, encoder).stack(["a" * 100]).shape == (1, 2)
    assert encoder.shapes == [(1, LONGEST)]


def test_vectors_that_were_dropped_are_computed_again() -> None:
    """The cache holds fewer than one set of labels has; the answers are the same."""
    encoder = LabelEncoder()
    small = LabelVectors(make_tokenizer(), encoder, cache_bytes=10 * VECTOR_BYTES)
    large = LabelVectors(make_tokenizer(), LabelEncoder())
    labels = names(500)
    small.prepare(labels, ignore)
    assert np.array_equal(small.stack(labels), large.stack(labels))
    assert sum(rows for rows, _ in encoder.shapes) > len(labels)


def test_threads_share_the_vectors() -> None:
    """Those that ask for the same labels at once get them from the one that computes them."""
    encoder, start = LabelEncoder(), Barrier(4)
    vectors = LabelVectors(make_tokenizer(), encoder)
    labels = names(600)

    def ask(_: int) -> LabelCounts:
        start.wait(10)
        return vectors.prepare(labels, ignore)

    with ThreadPoolExecutor(4) as pool:
        counts: Sequence[LabelCounts] = [*pool.map(ask, range(4))]
    assert (sum(c.computed for c in counts), sum(c.reused for c in counts)) == (600, 1800)
