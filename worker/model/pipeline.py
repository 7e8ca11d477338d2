"""What goes around a model's forward pass, on every runtime: words and pieces in, arrays, and spans from scores.

All of it follows from a `Described`, which a first start takes from gliner's own objects and keeps: later ones can
do without gliner, torch and the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.model.collate import Arrays, Layout, collate
from worker.model.decode import Scores, decode
from worker.model.tokenizer import FastTokenizer
from worker.protocols import ModelSpec, Span, Window


@dataclass(frozen=True, slots=True)
class Described:
    """What there is to know of a model beside its graph.

    Attributes:
        spec: its limits.
        layout: how it wants its rows.
        tagged: it tags words instead of scoring spans.
        word: a regular expression for what is a word to it; empty where only its splitter can say.
        pieces: its tokenizer, which neither cuts nor pads, as `tokenizers` writes it.
    """

    spec: ModelSpec
    layout: Layout
    tagged: bool
    word: str
    pieces: str


class Parts:
    """A described model's tokenizer, collator and decoder."""

    def __init__(self, described: Described) -> None:
        self.tokenizer = FastTokenizer(described.spec, described.pieces, described.word, described.spec.splitter)
        self._layout = described.layout
        self._tagged = described.tagged

    def collate(self, windows: Sequence[Window]) -> Arrays:
        """Windows as a model's inputs."""
        return collate(windows, self._layout)

    def decode(self, windows: Sequence[Window], scores: Scores) -> Sequence[Sequence[Span]]:
        """The spans of each window."""
        return decode(windows, scores, self._tagged)
