"""The steps around a model's forward pass, the same on every runtime: tokenize, collate, decode.

All of it follows from a `ModelDescription`, which a first start reads from gliner's objects and caches: later
starts need neither gliner, nor torch, nor the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.model.collate import Arrays, Layout, collate_windows
from worker.model.decode import Scores, decode_scores
from worker.model.tokenizer import FastTokenizer
from worker.protocols import ModelSpec, Span, Window


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Everything that is needed of a model in addition to its graph.

    Attributes:
        spec: its limits.
        layout: the rows it expects.
        tagged: it tags words instead of scoring spans.
        word_pattern: a regular expression that matches a word; empty where only the splitter can cut words.
        tokenizer_json: its tokenizer, without truncation and padding, as serialised by `tokenizers`.
    """

    spec: ModelSpec
    layout: Layout
    tagged: bool
    word_pattern: str
    tokenizer_json: str


class Pipeline:
    """A model's tokenizer, collator and decoder."""

    def __init__(self, model: ModelDescription) -> None:
        self.tokenizer = FastTokenizer(model.spec, model.tokenizer_json, model.word_pattern, model.spec.splitter)
        self._layout = model.layout
        self._tagged = model.tagged

    def collate(self, windows: Sequence[Window]) -> Arrays:
        """Return the model's inputs for a micro-batch."""
        return collate_windows(windows, self._layout)

    def decode(self, windows: Sequence[Window], scores: Scores) -> Sequence[Sequence[Span]]:
        """Return the spans of each window."""
        return decode_scores(windows, scores, self._tagged)
