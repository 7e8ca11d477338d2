"""A stand-in for the model: same shape and timing, predictable entities, and faults on demand.

It comes in through a composition root (`worker.app` takes an engine), never through a production setting.
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from threading import Event

from jobs.tasks import Task
from worker.protocols import (
    ClassPrompt,
    Encoded,
    EngineBroken,
    LabelCounts,
    ModelSpec,
    OutOfMemory,
    Pair,
    PromptFormat,
    Span,
    Spans,
    Window,
    Words,
)
from worker.text.spans import select_spans
from worker.text.words import make_pattern_splitter

WORD = r"\w+(?:[-_]\w+)*|\S"
SPLIT = make_pattern_splitter(WORD)

SPEC = ModelSpec(
    max_words=256,
    max_row_tokens=512,
    max_width=12,
    special_tokens=2,
    label_marker="<<ENT>>",
    text_marker="<<SEP>>",
    revision="fake",
)


ALL_TASKS = replace(SPEC, tasks=tuple(Task), prompt_format=PromptFormat.NONE)
"""A model that can do every task, and reads no prompt."""


class FaultWord(StrEnum):
    """Words that, anywhere in a micro-batch, make its forward pass go wrong."""

    error = "FAULTERROR"
    collate_error = "FAULTCOLLATE"
    decode_error = "FAULTDECODE"
    out_of_memory = "FAULTMEMORY"
    broken = "FAULTBROKEN"
    broken_late = "FAULTLATE"  # found out only when the scores are looked at
    hang = "FAULTHANG"
    exit = "FAULTEXIT"
    segfault = "FAULTSEGFAULT"


@dataclass
class FakeEngine:
    """Finds runs of capitalised words; their label follows from the text, their score from their length.

    An entity has every relation to the next one, of which labels it may have; the longer a class's name, the higher
    its score.

    Attributes:
        seconds_per_token: forward time per padded token (the demo model on two cores: about 2e-4).
        seconds_per_forward: forward time on top.
        budget: returned by `warm_up`.
        lanes: passes that may run at once.
        express_tokens: padded tokens of one that may run in addition to them.
        memory_tokens: padded tokens above which a forward pass is out of memory.
        hold: a pass with `FaultWord.hang` waits for this; never set, it hangs permanently.
        forwards: the windows of every pass that was started.
    """

    spec: ModelSpec = SPEC
    seconds_per_token: float = 0.0
    seconds_per_forward: float = 0.0
    budget: int = 2048
    lanes: int = 1
    express_tokens: int = 0
    memory_tokens: int = 1 << 40
    hold: Event = field(default_factory=Event)
    reserved: tuple[str, ...] = ("<<ENT>>", "<<SEP>>")
    forwards: list[tuple[Window, ...]] = field(default_factory=list)
    released: int = 0

    def split(self, text: str) -> Words:
        """Words as gliner's whitespace splitter cuts them."""
        return SPLIT(text)

    def count(self, words: Sequence[str]) -> list[int]:
        """Count one token for every six letters."""
        return [1 if word.startswith("<<") else -(-len(word) // 6) for word in words]

    def encode(self, words: Sequence[str]) -> Encoded:
        """Pieces without meaning."""
        counts = self.count(words)
        return Encoded([0] * sum(counts), counts)

    def count_label_tokens(self, labels: Sequence[str]) -> list[int]:
        """Count them as words."""
        return self.count(labels)

    def prepare_labels(self, windows: Sequence[Window], on_step: Callable[[], None]) -> LabelCounts:
        """Labels are part of the rows."""
        return LabelCounts()

    def collate(self, windows: Sequence[Window]) -> tuple[Window, ...]:
        """Return the windows as the batch."""
        self._fault(self._words(windows), FaultWord.collate_error)
        return tuple(windows)

    def forward(self, batch: tuple[Window, ...]) -> tuple[Window, ...]:
        """Take the model's time, or go wrong."""
        self.forwards.append(batch)
        padded = len(batch) * max(window.row_tokens for window in batch)
        words = self._words(batch)
        if padded > self.memory_tokens or FaultWord.out_of_memory in words:
            raise OutOfMemory
        if FaultWord.hang in words:
            self.hold.wait()
        if FaultWord.exit in words:
            os._exit(70)
        if FaultWord.segfault in words:
            os.kill(os.getpid(), signal.SIGSEGV)
            signal.pause()
        if FaultWord.broken in words:
            raise EngineBroken("fake")
        self._fault(words, FaultWord.error)
        if seconds := self.seconds_per_forward + self.seconds_per_token * padded:
            time.sleep(seconds)
        return batch

    def decode(self, batch: tuple[Window, ...], raw: tuple[Window, ...]) -> list[Sequence[Span]]:
        """Return the answers of each window."""
        words = self._words(batch)
        self._fault(words, FaultWord.decode_error)
        if FaultWord.broken_late in words:
            raise EngineBroken("fake")
        return [self._answer(window) for window in raw]

    def warm_up(self) -> int:
        """Nothing to warm up."""
        return self.budget

    def release_memory(self) -> None:
        """Count the calls."""
        self.released += 1

    def _answer(self, window: Window) -> Sequence[Span]:
        spans = self._entities(window) if window.prompts else []
        if not window.relations and not window.classes:
            return spans
        pairs = [
            Pair(index, head[:3], tail[:3], (head.score + tail.score) / 2)
            for index, relation in enumerate(window.relations)
            for head, tail in pairwise(spans)
            if (relation.heads is None or head.label in relation.heads)
            and (relation.tails is None or tail.label in relation.tails)
            and (head.score + tail.score) / 2 > relation.threshold
        ]
        return Spans(spans, pairs=pairs, classes=[_score_classes(question) for question in window.classes])

    def _entities(self, window: Window) -> list[Span]:
        spans, end = [], 0
        words = window.words
        for start in (i for i, word in enumerate(words) if word[0].isupper()):
            if start < end:
                continue
            end = start + 1
            while end < len(words) and words[end][0].isupper() and end - start < self.spec.max_width:
                end += 1
            text = " ".join(words[start:end])
            label = zlib.crc32(text.encode()) % len(window.prompts)
            spans.append(Span(start, end, label, 0.6 + min(0.39, len(text) / 100)))
        above = sorted((s for s in spans if s.score > window.thresholds[s.label]), key=lambda s: -s.score)
        return select_spans(above, window.flat, window.multi_label)

    @staticmethod
    def _fault(words: frozenset[str], fault: FaultWord) -> None:
        if fault in words:
            raise ValueError(f"{fault} secret text of a document")

    @staticmethod
    def _words(windows: Sequence[Window]) -> frozenset[str]:
        return frozenset().union(*(window.words for window in windows))


def _score_classes(question: ClassPrompt) -> list[float]:
    lengths = [len(label) for label in question.labels]
    most = max(lengths) + 1 if question.multi_label else sum(lengths)
    return [length / most for length in lengths]


def small_engine(max_words: int = 20, max_row_tokens: int = 60, max_width: int = 3) -> FakeEngine:
    """Return a model with a tiny window, so that texts are cut often."""
    return FakeEngine(replace(SPEC, max_words=max_words, max_row_tokens=max_row_tokens, max_width=max_width))
