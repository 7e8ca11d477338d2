"""A bi-encoder's head scores words with labels as gliner's layers do, in parts and with labels of each row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gliner.modeling.context_encoders import IdentityContextEncoder
from gliner.modeling.layers import create_projection_layer
from gliner.modeling.scorers import Scorer
from gliner.modeling.span_rep import SpanRepLayer

from worker.model import bi_encoder
from worker.model.graph import MarkerHead

SIZE, WIDTH, WORDS, LABELS = 8, 3, 5, 7


@pytest.fixture(autouse=True)
def seed() -> None:
    """Make weights and vectors the same in every run."""
    torch.manual_seed(5)


def make_core(span_mode: str) -> Any:
    """Return the layers of a span model."""
    return SimpleNamespace(
        span_rep_layer=SpanRepLayer(SIZE, WIDTH, span_mode, dropout=0.0).eval(),
        prompt_rep_layer=create_projection_layer(SIZE, 0.0).eval(),
        config=SimpleNamespace(max_width=WIDTH),
    )


def score(head: Any, words: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return a head's scores."""
    with torch.inference_mode():
        scores: torch.Tensor = head.score(head.project_words(words), head.project_labels(labels))
    return scores


@pytest.mark.parametrize("floats", [bi_encoder.PAIR_FLOATS, 2 * WORDS * 4 * SIZE * 3, 1])
def test_words_are_tagged_as_by_the_librarys_scorer(monkeypatch: pytest.MonkeyPatch, floats: int) -> None:
    """However many labels are scored at once, and for labels of all rows or of each."""
    monkeypatch.setattr(bi_encoder, "PAIR_FLOATS", floats)
    scorer = Scorer(SIZE).eval()
    head = bi_encoder.make_head(SimpleNamespace(scorer=scorer))
    words, labels = torch.randn(2, WORDS, SIZE), torch.randn(2, LABELS, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(score(head, words, labels), scorer(words, labels))
        torch.testing.assert_close(score(head, words, labels[0]), scorer(words, labels[:1].expand(2, -1, -1)))


@pytest.mark.parametrize(
    ("span_mode", "count"), [("markerV0", 7), ("markerV0", 20), ("query", 7), ("conv_share", 7)]
)
def test_spans_are_scored_as_by_the_librarys_layers(span_mode: str, count: int) -> None:
    """For spans that end in the text, with labels of all rows or of each, few or many."""
    core = make_core(span_mode)
    head = bi_encoder.make_head(core)
    assert isinstance(head, MarkerHead) == (span_mode == "markerV0")
    assert isinstance(core.span_rep_layer.context_encoder, IdentityContextEncoder)
    words, labels = torch.randn(2, WORDS, SIZE), torch.randn(2, count, SIZE)
    starts = torch.arange(WORDS).repeat_interleave(WIDTH)
    ends = starts + torch.arange(WIDTH).repeat(WORDS)
    inside = (ends < WORDS).reshape(WORDS, WIDTH)
    index = torch.stack([starts, ends], dim=1) * (ends < WORDS)[:, None]
    with torch.inference_mode():
        spans = core.span_rep_layer(words, index.expand(2, -1, -1))
        expected = torch.einsum("BLKD,BCD->BLKC", spans, core.prompt_rep_layer(labels))
    torch.testing.assert_close(score(head, words, labels)[:, inside], expected[:, inside])
    torch.testing.assert_close(score(head, words, labels[0])[0][inside], expected[0][inside])
