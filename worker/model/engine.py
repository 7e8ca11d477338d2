"""A model behind `worker.protocols.Engine`: words in, arrays through the runtime that was selected, spans out."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jobs.process.cpu import cpu_count
from jobs.schema import Document, Labels, Options
from worker.model.collate import Arrays
from worker.model.decode import Scores
from worker.model.pipeline import Parts
from worker.model.selection import choice_cache
from worker.model.selection.choice_cache import Asked, Device, Precision, RuntimeName, Selection
from worker.model.sources.resolve import Resolved
from worker.protocols import ModelSpec, OutOfMemory, ShardRef, Span, Window
from worker.text.splitters import Splitter
from worker.text.windows import cut_document

CPU_ROW_WORDS = 48
CPU_BUDGETS = (256, 512, 1024)
"""Padded tokens tried at warm-up, the most of them in all streams together. More make a token hardly cheaper, but
rows less alike, and others wait."""
CPU_ROUNDS = 4
CPU_FORWARD_S = 0.4
"""A forward pass on a CPU should not be longer: others wait for it."""
LONG_WORD = "the" * 8
"""A word of several tokens: a full window of them has as many tokens as a row may have."""
GOOD_ENOUGH = 0.98
"""Of the best speed. With rows of one length the sizes are within a tenth of each other; a real job took a fifth
less of the worker's CPU with 512 tokens than with 256, which were 0.91 to 0.98 as fast here."""
CUDA_FORWARD_S = 0.1
CUDA_BUDGETS = (16_384, 32_768, 65_536)
SHARED_MEMORY = 0.9
"""Part of a shared card's memory that its processes divide; beside it CUDA takes some for each of them."""


def load(
    model: Resolved,
    device: Device = "auto",
    precision: Precision = "auto",
    runtime: RuntimeName = "auto",
    cache_dir: Path | None = None,
    gpu_shared_by: int = 1,
    most_tokens: int = 0,
    splitter: str = Splitter.MODEL,
    merge_adjacent: bool = False,
) -> GlinerEngine:
    """Load a model for inference.

    Args:
        model: the weights' folder, from `worker.model.sources.resolve.resolve`.
        device: `auto` takes CUDA where there is one.
        precision: `auto` on a CPU is the fastest whose answers agree, on CUDA bf16 (fp16 on older cards) if its do.
        runtime: `auto` is the fastest whose answers agree.
        cache_dir: where exports and the choice are kept; without it there is only torch, and nothing is remembered.
        gpu_shared_by: processes like this one on the CUDA device.
        most_tokens: tokens that a row may have; 0: by the model's words. The model's own limits hold in any case.
        splitter: what cuts texts into words; by default the model's own splitter.
        merge_adjacent: merge adjacent entities of a label where a request does not say whether to.

    Raises:
        ModelBrokenError: the files do not make a model this version can run, or not on the runtime asked for.
        ExtraMissingError: the splitter's package is not installed.
        ValueError: the device or the runtime is not there, or cannot compute in that precision.
    """
    target = _device(device)
    card = _card(gpu_shared_by) if target == "cuda" else ""
    asked = Asked(target, runtime, precision, cpu_count(), card, most_tokens, splitter)
    folder = None if cache_dir is None else choice_cache.place(cache_dir, model)
    selection = choice_cache.again(folder, asked) if folder else None
    if selection is None:
        from worker.model.selection.select import select  # with gliner and torch, which take seconds to import

        selection = select(model, asked, folder)
    return GlinerEngine(selection, asked.device, merge_adjacent)


def _device(device: Device) -> str:
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ValueError("GLEANER_DEVICE=cuda, but torch sees no CUDA device.")
    return "cpu"


def _card(shared_by: int) -> str:
    """The CUDA device's name. Of a shared one this process takes no more than its part of the memory."""
    import torch

    if shared_by > 1:
        torch.cuda.set_per_process_memory_fraction(SHARED_MEMORY / shared_by)
    return torch.cuda.get_device_name()


def _has_driver() -> bool:
    """Whether torch need be asked for a CUDA device: without the driver's library it sees none."""
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
    """A GLiNER uni-encoder on one device.

    Attributes:
        streams: forward passes that may run at once.
        express_tokens: padded tokens of one that may run beside them.
    """

    def __init__(self, selection: Selection, device: str, merge_adjacent: bool = False) -> None:
        self._parts = Parts(selection.found.model)
        self._runtime = selection.run_by
        self._device = device
        self.streams = self._runtime.streams
        self.express_tokens = self._runtime.express_tokens
        self._spec = replace(
            self._parts.tokenizer.spec, **asdict(selection.found.candidate), merge_adjacent=merge_adjacent
        )
        self.split = self._parts.tokenizer.split
        self.encode = self._parts.tokenizer.encode
        self.reserved = self._parts.tokenizer.reserved

    @property
    def spec(self) -> ModelSpec:
        """The model's limits, and what runs it."""
        return self._spec

    def collate(self, windows: Sequence[Window]) -> _Batch:
        """Windows as padded arrays on the CPU."""
        return _Batch(tuple(windows), self._parts.collate(windows))

    def forward(self, batch: _Batch) -> Scores:
        """Run the model; the scores are on the CPU."""
        return self._runtime.run(batch.arrays)

    def decode(self, batch: _Batch, raw: Scores) -> Sequence[Sequence[Span]]:
        """The spans of each window, in the windows' order."""
        return self._parts.decode(batch.windows, raw)

    def warm_up(self) -> int:
        """Find the padded-token budget, and run the largest rows once: the most words, and the most tokens.

        Raises:
            OutOfMemory: not even one of them fits the device.
        """
        self._timed([self._window(self.spec.max_words)])
        longest = self._window(self.spec.max_words, LONG_WORD)
        self._timed([longest])
        if self._device == "cpu":
            return self._cpu_budget()
        budget = longest.row_tokens
        with contextlib.suppress(OutOfMemory):
            for candidate in CUDA_BUDGETS:
                self._timed([longest] * max(1, candidate // longest.cost))
                budget = candidate
                if self._timed([longest] * max(1, candidate // longest.cost)) > CUDA_FORWARD_S:
                    break
        self.release_memory()
        return budget

    def _cpu_budget(self) -> int:
        """The smallest micro-batch at which a token is about as cheap as it gets, with all streams busy."""
        row = self._window(CPU_ROW_WORDS)
        sizes = [size for size in CPU_BUDGETS if size * self.streams <= CPU_BUDGETS[-1]] or CPU_BUDGETS[:1]
        batches = {size: [row] * max(1, size // row.row_tokens) for size in sizes}
        speeds: dict[int, float] = {}
        with ThreadPoolExecutor(self.streams) as pool:
            for _ in range(CPU_ROUNDS):  # turn about, and the best: others who use the cores must not choose
                for size, rows in batches.items():
                    seconds = max(pool.map(self._timed, [rows] * self.streams))
                    speeds[size] = max(speeds.get(size, 0.0), len(rows) * row.row_tokens / seconds)
                    if seconds > CPU_FORWARD_S:
                        break
        enough = GOOD_ENOUGH * max(speeds.values())
        return next(size for size, speed in speeds.items() if speed >= enough)

    def _window(self, words: int, word: str = "the") -> Window:
        """Return a row of `words` words, or of as many as fit, with the labels that a row's tokens stand for."""
        text = " ".join([word] * min(words, self.spec.max_words))
        labels: Labels = {f"person {number}": None for number in range(1, max(1, self.spec.labels_included) + 1)}
        options = Options(long_text="truncate")
        return cut_document(Document(0, "0", text), labels, options, self, ShardRef("warm-up", 0)).windows[0]

    def _timed(self, windows: Sequence[Window]) -> float:
        start = time.perf_counter()
        batch = self.collate(windows)
        self.decode(batch, self.forward(batch))
        return time.perf_counter() - start

    def release_memory(self) -> None:
        """Give cached device memory back."""
        self._runtime.release_memory()
