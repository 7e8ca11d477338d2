"""GLiNER on torch behind `worker.contract.Engine`: words in, tensors through the model, spans out.

The one file that calls gliner. It uses gliner's own collate, forward and decode, one label set, threshold and mode
per row, so that a row's answer is what `predict_entities` gives for it alone. Other runtimes join in `load`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from gliner import GLiNER
from gliner.model import UniEncoderSpanGLiNER, UniEncoderTokenGLiNER
from safetensors import safe_open
from tokenizers import Tokenizer as BackendTokenizer

from worker.contract import EngineBroken, ModelSpec, OutOfMemory, ShardRef, Span, Window
from worker.decode import decode
from worker.models import ModelBrokenError, Resolved

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

CPU_FORWARD_S = 0.4
"""On a CPU a larger micro-batch is no faster for each token, so it only makes others wait; this is how long."""
CUDA_FORWARD_S = 0.1
CUDA_BUDGETS = (16_384, 32_768, 65_536)
MAX_CPU_BUDGET = 8_192
COUNT_AT_ONCE = 4_096
"""Words per tokenizer call when counting, so that a long text needs no long tensor."""


def load(model: Resolved, device: Device = "auto", precision: Precision = "auto") -> TorchEngine:
    """Load a model for inference.

    Args:
        model: the weights' folder, from `worker.models.resolve`.
        device: `auto` takes CUDA where there is one.
        precision: `auto` is fp32 on a CPU, bf16 (fp16 on older cards) on CUDA.

    Raises:
        ModelBrokenError: the files do not make a model this version can run.
        ValueError: the device is not there, or cannot compute in that precision.
    """
    target = _device(device)
    dtype = _dtype(target, precision)
    if target == "cpu":
        torch.set_num_threads(cpu_count())
    return TorchEngine(_gliner(model.folder, target), model.revision, target, dtype)


def cpu_count() -> int:
    """Cores this process may really use: its affinity and its cgroup's quota, not the host's."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(1, int(cores))


def _device(device: Device) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("GLEANER_DEVICE=cuda, but torch sees no CUDA device.")
    return device


def _dtype(device: str, precision: Precision) -> torch.dtype:
    if precision == "auto":
        if device == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if precision == "fp16" and device == "cpu":
        raise ValueError("GLEANER_PRECISION=fp16 needs CUDA; on a CPU use fp32 or bf16.")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _gliner(folder: Path, device: str) -> Any:
    try:
        model = GLiNER.from_pretrained(str(folder), local_files_only=True, map_location=device)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ModelBrokenError(f"{folder}: gliner cannot load it: {type(error).__name__}: {error}") from error
    if type(model) not in (UniEncoderSpanGLiNER, UniEncoderTokenGLiNER):
        name = type(model).__name__
        raise ModelBrokenError(f"{folder}: architecture {name} is not supported; use a uni-encoder.")
    missing = _missing_weights(model.model.state_dict(), folder)
    if missing:
        raise ModelBrokenError(f"{folder}: {len(missing)} weights are not in the file, {missing[0]} first.")
    return model


def _missing_weights(state: dict[str, torch.Tensor], folder: Path) -> list[str]:
    """Weights that gliner left at random values without a word: in the model, but not in its file."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    shared = {state[name].data_ptr() for name in names if name in state}
    return sorted(
        name
        for name, value in state.items()
        # BERT's pooler is built, but GLiNER never runs it; tied weights are stored once.
        if name not in names and ".pooler." not in name and value.data_ptr() not in shared
    )


def _spec(model: Any, revision: str) -> ModelSpec:
    tokenizer, config = model.data_processor.transformer_tokenizer, model.config
    encoder = config.encoder_config
    limits = [tokenizer.model_max_length]
    if getattr(encoder, "position_embedding_type", "absolute") == "absolute" and not getattr(
        encoder, "relative_attention", False
    ):
        limits.append(getattr(encoder, "max_position_embeddings", limits[0]))
    return ModelSpec(
        max_words=config.max_len,
        max_pieces=min(limits),
        max_width=getattr(config, "max_width", None) or 12,
        special_pieces=tokenizer.num_special_tokens_to_add(),
        label_marker=model.data_processor.ent_token,
        text_marker=model.data_processor.sep_token,
        revision=revision,
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    windows: tuple[Window, ...]
    tensors: dict[str, Any]


class TorchEngine:
    """A GLiNER uni-encoder on one device."""

    def __init__(self, model: Any, revision: str, device: str, dtype: torch.dtype) -> None:
        self._model = model
        self._device = device
        self._dtype = dtype
        self._spec = _spec(model, revision)
        self._collator = model.create_collator()
        self._split_lock = (
            contextlib.nullcontext()
            if model.config.words_splitter_type == "whitespace"
            else threading.Lock()  # the language-specific splitters make no promise about threads
        )
        backend = BackendTokenizer.from_str(model.data_processor.transformer_tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        self._backend_json = backend.to_str()
        self._local = threading.local()
        self._tagged = isinstance(model, UniEncoderTokenGLiNER)

    @property
    def spec(self) -> ModelSpec:
        """The model's limits."""
        return self._spec

    def split(self, text: str) -> list[tuple[int, int]]:
        """Where the model's splitter sees words: (start, end) in code points."""
        with self._split_lock:
            return [(start, end) for _, start, end in self._model.data_processor.words_splitter(text)]

    def count(self, words: Sequence[str]) -> list[int]:
        """Word pieces of each word, special tokens aside."""
        tokenizer = self._tokenizer()
        counts = [0] * len(words)
        for first in range(0, len(words), COUNT_AT_ONCE):
            part = list(words[first : first + COUNT_AT_ONCE])
            encoding = tokenizer.encode(part, is_pretokenized=True, add_special_tokens=False)
            for word in encoding.word_ids:
                if word is not None:
                    counts[first + word] += 1
        return counts

    def _tokenizer(self) -> BackendTokenizer:
        """This thread's own tokenizer: fast tokenizers are not thread-safe."""
        if not hasattr(self._local, "tokenizer"):
            self._local.tokenizer = BackendTokenizer.from_str(self._backend_json)
        tokenizer: BackendTokenizer = self._local.tokenizer
        return tokenizer

    def collate(self, windows: Sequence[Window]) -> _Batch:
        """Windows as padded tensors on the CPU; raises if gliner would have cut one of them."""
        tensors = self._model.collate_batch(
            [{"tokenized_text": list(window.words), "ner": None} for window in windows],
            [list(window.prompts) for window in windows],
            self._collator,
        )
        lengths = tensors["attention_mask"].sum(dim=1).tolist()
        if lengths != [window.pieces for window in windows]:
            raise RuntimeError("a window's word pieces were counted wrong, or gliner cut it")
        return _Batch(tuple(windows), tensors)

    def forward(self, batch: _Batch) -> Any:
        """Run the model; the scores come back to the CPU, so that decoding never waits for the device."""
        threshold = min(min(window.thresholds) for window in batch.windows)
        with _device_errors(), self._autocast():
            output = self._model.run_batch(batch.tensors, threshold=threshold)
            return {
                name: (value.float() if value.is_floating_point() else value).cpu().numpy()
                for name in ("logits", "span_logits", "span_idx", "span_mask")
                if (value := getattr(output, name, None)) is not None
            }

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=self._dtype)

    def decode(self, batch: _Batch, raw: Any) -> list[list[Span]]:
        """The spans of each window, in the windows' order."""
        return decode(batch.windows, raw, self._tagged)

    def warm_up(self) -> int:
        """Find the padded-token budget, run it once, and check that pieces are counted as gliner counts them.

        Raises:
            OutOfMemory: not even one full window fits the device.
        """
        full = self._full_window()
        self._timed([full])
        if self._device == "cpu":
            seconds = min(self._timed([full]) for _ in range(3))  # the best: others may be using the cores
            wanted = int(full.pieces / seconds * CPU_FORWARD_S)
            budget = max(2 * self.spec.max_pieces, min(MAX_CPU_BUDGET, wanted))
            self._timed([full] * (budget // full.pieces))
            return budget
        budget = full.pieces
        with contextlib.suppress(OutOfMemory):
            for candidate in CUDA_BUDGETS:
                self._timed([full] * max(1, candidate // full.pieces))
                budget = candidate
                if self._timed([full] * max(1, candidate // full.pieces)) > CUDA_FORWARD_S:
                    break
        self.release_memory()
        return budget

    def _full_window(self) -> Window:
        marker, separator, label, word = self.count(
            [self.spec.label_marker, self.spec.text_marker, "person", "the"]
        )
        prompt = self.spec.special_pieces + marker + separator + label
        words = min(self.spec.max_words, (self.spec.max_pieces - prompt) // word)
        return Window(
            ShardRef("warm-up", 0), 0, ("the",) * words, ("person",), (0.5,), True, False, prompt + words * word
        )

    def _timed(self, windows: Sequence[Window]) -> float:
        start = time.perf_counter()
        batch = self.collate(windows)
        self.decode(batch, self.forward(batch))
        return time.perf_counter() - start

    def release_memory(self) -> None:
        """Give cached device memory back."""
        if self._device == "cuda":
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _device_errors() -> Iterator[None]:
    """Tell a full device and a lost one from an ordinary failure."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory from error
    except RuntimeError as error:
        text = str(error)
        if "can't allocate memory" in text or "not enough memory" in text:
            raise OutOfMemory from error
        if text.startswith("CUDA error") or type(error).__name__ == "AcceleratorError":
            raise EngineBroken(type(error).__name__) from error
        raise
