"""Runs an engine at full size once, and measures the micro-batch budget that suits its device."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs.schema import Document, Labels, Options
from jobs.tasks import Tasks
from worker.protocols import Encoded, LabelCounts, ModelSpec, OutOfMemory, ShardRef, Span, Window, Words
from worker.text.windows import JobContext, cut_document

CPU_ROW_WORDS = 48
CPU_BUDGETS = (256, 512, 1024)
"""Padded tokens tried at warm-up; the largest is for all lanes together. More hardly make a token cheaper, but
rows less alike, and other micro-batches wait longer."""
CPU_ROUNDS = 4
CPU_FORWARD_S = 0.4
"""Longest forward pass on a CPU: other micro-batches wait for it."""
LONG_WORD = "the" * 8
"""A word of several tokens: a full window of them has as many tokens as a row may have."""
GOOD_ENOUGH = 0.98
"""Share of the best speed. With rows of one length the sizes are within a tenth of each other; a real job took a
fifth less of the worker's CPU with 512 tokens than with 256, which were 0.91 to 0.98 as fast here."""
CUDA_FORWARD_S = 0.1
CUDA_BUDGETS = (16_384, 32_768, 65_536)


class WarmUp(ABC):
    """The warm-up of an engine.

    Attributes:
        device: `cpu` or `cuda`.
    """

    device: str
    spec: ModelSpec
    reserved: Sequence[str]
    lanes: int
    split: Callable[[str], Words]
    encode: Callable[[Sequence[str]], Encoded]
    count_label_tokens: Callable[[Sequence[str]], Sequence[int]]
    express_tokens: int
    prepare_labels: Callable[[Sequence[Window], Callable[[], None]], LabelCounts]
    release_memory: Callable[[], None]

    @abstractmethod
    def collate(self, windows: Sequence[Window]) -> Any:
        """Return windows as padded tensors."""

    @abstractmethod
    def forward(self, batch: Any) -> Any:
        """Run the model."""

    @abstractmethod
    def decode(self, batch: Any, raw: Any) -> Sequence[Sequence[Span]]:
        """Return the spans of each window."""

    def warm_up(self) -> int:
        """Run the largest rows once (the most words, and the most tokens), and return the budget in padded tokens.

        Raises:
            OutOfMemory: not even one of them fits the device.
        """
        self._time_batch([self._make_window(self.spec.max_words)])
        longest = self._make_window(self.spec.max_words, LONG_WORD)
        self._time_batch([longest])
        if self.device == "cpu":
            return self._measure_cpu_budget()
        budget = longest.row_tokens
        with contextlib.suppress(OutOfMemory):
            for candidate in CUDA_BUDGETS:
                self._time_batch([longest] * max(1, candidate // longest.cost))
                budget = candidate
                if self._time_batch([longest] * max(1, candidate // longest.cost)) > CUDA_FORWARD_S:
                    break
        self.release_memory()
        return budget

    def _measure_cpu_budget(self) -> int:
        """Return the smallest micro-batch whose cost per token is close to the best, with all lanes busy."""
        row = self._make_window(CPU_ROW_WORDS)
        sizes = [size for size in CPU_BUDGETS if size * self.lanes <= CPU_BUDGETS[-1]] or CPU_BUDGETS[:1]
        batches = {size: [row] * max(1, size // row.row_tokens) for size in sizes}
        speeds: dict[int, float] = {}
        with ThreadPoolExecutor(self.lanes) as pool:
            for _ in range(CPU_ROUNDS):  # in turn, and the best counts: other load on the cores must not decide
                for size, rows in batches.items():
                    seconds = max(pool.map(self._time_batch, [rows] * self.lanes))
                    speeds[size] = max(speeds.get(size, 0.0), len(rows) * row.row_tokens / seconds)
                    if seconds > CPU_FORWARD_S:
                        break
        enough = GOOD_ENOUGH * max(speeds.values())
        return next(size for size, speed in speeds.items() if speed >= enough)

    def _make_window(self, words: int, word: str = "the") -> Window:
        """Return a row of `words` words, or as many as fit, with the labels that a row's tokens stand for."""
        text = " ".join([word] * min(words, self.spec.max_words))
        labels: Labels = {f"person {number}": None for number in range(1, max(1, self.spec.labels_included) + 1)}
        options = Options(long_text="truncate")
        return cut_document(
            Document(0, "0", text), JobContext(ShardRef("warm-up", 0), Tasks(labels), options), self
        ).windows[0]

    def _time_batch(self, windows: Sequence[Window]) -> float:
        self.prepare_labels(windows, lambda: None)
        start = time.perf_counter()
        batch = self.collate(windows)
        self.decode(batch, self.forward(batch))
        return time.perf_counter() - start
