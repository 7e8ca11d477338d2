"""Our decoding compared with gliner's, on random scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gliner.decoding.decoder import SpanDecoder, TokenDecoder
from hypothesis import given
from hypothesis import strategies as st

from worker.model.decode import decode_scores
from worker.protocols import ShardRef, Span, Window

WIDTH = 4
OWNER = ShardRef("job", 0)


def window(words: int, labels: int, threshold: float = 0.5, **options: Any) -> Window:
    """Return a row of `words` words with `labels` labels."""
    prompts = tuple(f"label {i}" for i in range(labels))
    flat, multi_label = options.get("flat", True), options.get("multi_label", False)
    explain = options.get("explain", False)
    return Window(OWNER, 0, ("w",) * words, prompts, (threshold,) * labels, flat, multi_label, 9, explain)


windows = st.lists(
    st.builds(
        window,
        st.integers(1, 7),
        st.integers(1, 4),
        st.sampled_from([0.0, 0.2, 0.5, 0.9]),
        flat=st.booleans(),
        multi_label=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def decode_by_gliner(decoder: Any, rows: list[Window], **scores: torch.Tensor) -> list[list[Span]]:
    """Return the spans that gliner decodes from the scores."""
    decoded = decoder.decode(
        [list(row.words) for row in rows],
        [{i + 1: i for i in range(len(row.prompts))} for row in rows],
        scores.get("logits"),
        flat_ner=[row.flat for row in rows],
        threshold=[row.thresholds[0] for row in rows],
        multi_label=[row.multi_label for row in rows],
        **{name: value for name, value in scores.items() if name != "logits"},
    )
    return [[Span(s.start, s.end + 1, s.entity_type, s.score) for s in spans] for spans in decoded]


def assert_same(expected: list[list[Span]], actual: list[list[Span]]) -> None:
    """Assert equal spans, and equal scores but for rounding."""
    assert [[s[:3] for s in row] for row in expected] == [[s[:3] for s in row] for row in actual]
    for row, ours in zip(expected, actual, strict=True):
        assert [s.score for s in row] == pytest.approx([s.score for s in ours], abs=1e-6)


def random_scores(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return logits around the thresholds, some of them equal."""
    return np.round(np.random.default_rng(seed).normal(0, 2, shape), 2).astype(np.float32)


def batch_size(rows: list[Window]) -> tuple[int, int, int]:
    """Return the number of rows, of words of the longest, and the most labels."""
    return len(rows), max(len(row.words) for row in rows), max(len(row.prompts) for row in rows)


@given(windows, st.integers(0, 10_000))
def test_spans_are_those_of_gliners_span_decoder(rows: list[Window], seed: int) -> None:
    """Every start and width scored: same spans in the same order, whatever shares the micro-batch."""
    count, words, labels = batch_size(rows)
    logits = random_scores(seed, count, words, WIDTH, labels)

    assert_same(
        decode_by_gliner(SpanDecoder(None), rows, logits=torch.from_numpy(logits)),
        decode_scores(rows, {"logits": logits}, False),
    )


@given(windows, st.integers(0, 10_000))
def test_spans_are_those_of_gliners_token_decoder(rows: list[Window], seed: int) -> None:
    """Start, end and inside scored for each word."""
    count, words, labels = batch_size(rows)
    logits = random_scores(seed, count, words, labels, 3)

    assert_same(
        decode_by_gliner(TokenDecoder(None), rows, logits=torch.from_numpy(logits)),
        decode_scores(rows, {"logits": logits}, True),
    )


def test_each_label_has_its_threshold_before_overlaps_are_resolved() -> None:
    """A span below its own label's threshold does not push out one that is above its."""
    logits = np.full((1, 2, WIDTH, 2), -9.0, np.float32)
    logits[0, 0, 1] = (2.0, 1.0)
    row = Window(OWNER, 0, ("a", "b"), ("x", "y"), (0.95, 0.5), True, False, 9)

    [[span]] = decode_scores([row], {"logits": logits}, False)

    assert span[:3] == (0, 2, 1)


@pytest.mark.parametrize("tagged", [False, True])
def test_an_explained_span_names_its_runners_up(tagged: bool) -> None:
    """The next best labels of that very span, best first, at most three, and none that the row did not ask for."""
    scores = np.array([3.0, -1.0, 0.5, -2.0, 2.0, 9.0], np.float32)
    logits = np.full((2, 3, 6, 3) if tagged else (2, 3, WIDTH, 6), -9.0, np.float32)
    if tagged:
        logits[0, 1:3, :, 2] = 9.0
        logits[0, 1, :, 0] = logits[0, 2, :, 1] = scores
    else:
        logits[0, 1, 1] = scores
    logits[1] = logits[0]

    [[span], [silent]] = decode_scores([window(3, 5, explain=True), window(3, 5)], {"logits": logits}, tagged)

    assert span[:3] == silent[:3] == (1, 3, 0)
    assert silent.runners_up == ()
    assert [label for label, _ in span.runners_up] == [4, 2, 1]
    assert [score for _, score in span.runners_up] == pytest.approx([0.880797, 0.622459, 0.268941], abs=1e-5)
