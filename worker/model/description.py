"""The description of a model: everything around its forward pass, the same on every runtime.

A first start reads it from gliner's objects and caches it: later starts need neither gliner, nor torch, nor the
weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.model.collate import Layout
from worker.model.tokenizer import LabelLayout
from worker.protocols import ModelSpec


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Everything that is needed of a model in addition to its graph.

    Attributes:
        spec: its limits.
        layout: the rows it expects.
        tagged: it tags words instead of scoring spans.
        word_pattern: a regular expression that matches a word; empty where only the splitter can cut words.
        tokenizer_json: its tokenizer, without truncation and padding, as serialised by `tokenizers`.
        labels: the rows of its label encoder, if it is a bi-encoder.
    """

    spec: ModelSpec
    layout: Layout
    tagged: bool
    word_pattern: str
    tokenizer_json: str
    labels: LabelLayout | None = None
