"""A model behind `worker.protocols.Engine`: words in, arrays through the runtime that was selected, spans out."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from jobs.process.cpu import cpu_count
from jobs.schema import Document, Labels, Options
from jobs.tasks import Tasks
from worker.model.collate import Arrays, collate_windows
from worker.model.decode import RowScores, decode_scores, read_rows
from worker.model.selection import choice_cache
from worker.model.selection.choice_cache import Device, Precision, RuntimeName, RuntimeRequest, Selection
from worker.model.sources.resolve import Resolved
from worker.model.splitters import Splitter
from worker.model.tokenizer import FastTokenizer
from worker.protocols import OutOfMemory, ShardRef, Span, Window
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
SHARED_MEMORY = 0.9
"""Share of a GPU's memory that the processes on it divide; CUDA takes some for each process in addition."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings that decide how a model is run; `worker.settings` describes them.

    Without a `cache_dir`, for exports and choices, only torch is tried, and no choice is cached.
    """

    device: Device = "auto"
    precision: Precision = "auto"
    runtime: RuntimeName = "auto"
    cache_dir: Path | None = None
    gpu_shared_by: int = 1
    max_row_tokens: int = 0
    splitter: str = Splitter.MODEL
    merge_adjacent: bool = False
    cpus: int = 0


def load_model(model: Resolved, options: EngineOptions) -> GlinerEngine:
    """Load a model from `worker.model.sources.resolve.resolve_model` for inference.

    Raises:
        ModelBrokenError: the files do not make a model that this version, or the requested runtime, can run.
        ExtraMissingError: the splitter's package is not installed.
        ValueError: the device or runtime is not available, or does not support the precision.
    """
    device = _pick_device(options.device)
    card = _reserve_card(options.gpu_shared_by) if device == "cuda" else ""
    request = RuntimeRequest(
        device,
        options.runtime,
        options.precision,
        cpu_count(options.cpus),
        card,
        options.max_row_tokens,
        options.splitter,
    )
    folder = choice_cache.cache_folder(options.cache_dir, model) if options.cache_dir else None
    selection = choice_cache.load_choice(folder, request) if folder else None
    if selection is None:
        from worker.model.selection.select import select_runtime  # with gliner and torch: seconds to import

        selection = select_runtime(model, request, folder)
    return GlinerEngine(selection, device, options.merge_adjacent)


def _pick_device(device: Device) -> str:
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ValueError("GLEANER_DEVICE=cuda, but torch finds no CUDA device. Check the driver, or set it to cpu.")
    return "cpu"


def _reserve_card(shared_by: int) -> str:
    """Return the CUDA device's name; limit this process to its share of the memory if the device is shared."""
    import torch

    if shared_by > 1:
        torch.cuda.set_per_process_memory_fraction(SHARED_MEMORY / shared_by)
    return torch.cuda.get_device_name()


def _has_driver() -> bool:
    """Return whether the CUDA driver is installed; without it torch, which finds no device, is not imported."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Batch:
    windows: tuple[Window, ...]
    arrays: Arrays


class GlinerEngine:
    """A GLiNER model on one device, as `worker.protocols.Engine` describes."""

    def __init__(self, selection: Selection, device: str, merge_adjacent: bool = False) -> None:
        model, candidate = selection.choice.model, selection.choice.candidate
        tokenizer = FastTokenizer(model.spec, model.tokenizer_json, model.word_pattern, model.labels)
        self._layout, self._tagged = model.layout, model.tagged
        self._runtime = selection.runtime
        self._device = device
        self.lanes = self._runtime.lanes
        self.express_tokens = self._runtime.express_tokens
        self.prepare_labels = self._runtime.prepare_labels
        self.release_memory = self._runtime.release_memory
        self.spec = replace(model.spec, **asdict(candidate), merge_adjacent=merge_adjacent)
        self.split = tokenizer.split
        self.encode = tokenizer.encode
        self.count_label_tokens = tokenizer.count_label_tokens
        self.reserved = tokenizer.reserved

    def collate(self, windows: Sequence[Window]) -> _Batch:
        """Return the windows as padded arrays on the CPU."""
        return _Batch(tuple(windows), collate_windows(windows, self._layout))

    def forward(self, batch: _Batch) -> list[RowScores]:
        """Run the model; the scores are on the CPU."""
        return self._runtime.run_windows(batch.windows, batch.arrays)

    def decode(self, batch: _Batch, raw: list[RowScores]) -> Sequence[Sequence[Span]]:
        """Return the spans of each window, in the windows' order."""
        return read_rows(batch.windows, raw, partial(decode_scores, tagged=self._tagged))

    def warm_up(self) -> int:
        """Run the largest rows once (the most words, and the most tokens), and return the budget in padded tokens.

        Raises:
            OutOfMemory: not even one of them fits the device.
        """
        self._time_batch([self._make_window(self.spec.max_words)])
        longest = self._make_window(self.spec.max_words, LONG_WORD)
        self._time_batch([longest])
        if self._device == "cpu":
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
