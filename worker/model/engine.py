"""A model behind `worker.protocols.Engine`: words in, arrays through the runtime that was selected, spans out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from jobs.process.cpu import cpu_count
from worker.model.collate import Arrays, collate_windows
from worker.model.decode import RowScores, decode_scores, read_rows
from worker.model.runtimes.warm_up import WarmUp
from worker.model.selection import choice_cache
from worker.model.selection.choice_cache import Device, Precision, RuntimeName, RuntimeRequest, Selection
from worker.model.sources.configs import Library
from worker.model.sources.resolve import Resolved
from worker.model.splitters import Splitter
from worker.model.tokenizer import FastTokenizer
from worker.protocols import Engine, Span, Window

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


def load_model(model: Resolved, options: EngineOptions) -> Engine:
    """Load a model from `worker.model.sources.resolve.resolve_model` for inference.

    Raises:
        ModelBrokenError: the files do not make a model that this version, or the requested runtime, can run.
        ExtraMissingError: the splitter's package is not installed.
        ValueError: the device or runtime is not available, or does not support the precision.
    """
    device = _pick_device(options.device)
    card = _reserve_card(options.gpu_shared_by) if device == "cuda" else ""
    if model.library is Library.GLINER2:
        return _load_extractor(model, options, device)
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


def _load_extractor(model: Resolved, options: EngineOptions, device: str) -> Engine:
    if options.runtime not in ("auto", "torch") or options.precision not in ("auto", "fp32"):
        raise ValueError(
            f"GLEANER_RUNTIME={options.runtime}, GLEANER_PRECISION={options.precision}: GLiNER2 models run with "
            "torch in fp32. Remove these settings."
        )
    from worker.model.extractor.engine import load_engine  # with gliner2 and torch: seconds to import

    return load_engine(model, device, cpu_count(options.cpus), options.max_row_tokens, options.splitter)


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


class GlinerEngine(WarmUp):
    """A GLiNER model on one device, as `worker.protocols.Engine` describes."""

    def __init__(self, selection: Selection, device: str, merge_adjacent: bool = False) -> None:
        model, candidate = selection.choice.model, selection.choice.candidate
        tokenizer = FastTokenizer(model.spec, model.tokenizer_json, model.word_pattern, model.labels)
        self._layout, self._tagged = model.layout, model.tagged
        self._runtime = selection.runtime
        self.device = device
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
