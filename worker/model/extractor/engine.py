"""GLiNER2 and GLiNER2.5 behind `worker.protocols.Engine`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from gliner2.processing.word_splitter import CharLevelSplitter, WhitespaceTokenSplitter
from tokenizers import Tokenizer as BackendTokenizer

from jobs.tasks import Task
from worker.model import splitters
from worker.model.extractor.boundary import run_boundary_model
from worker.model.extractor.collate import Batch, RowTokens, collate_windows
from worker.model.extractor.decode_proposals import Rules, decode_proposals
from worker.model.extractor.decode_spans import decode_spans
from worker.model.extractor.loading import load_extractor
from worker.model.extractor.span import run_span_model
from worker.model.runtimes.device_errors import translate_device_errors
from worker.model.runtimes.warm_up import WarmUp
from worker.model.sources.resolve import Resolved
from worker.model.sources.row_limit import count_positions, row_tokens
from worker.model.splitters import Splitter
from worker.model.tokenizer import FastTokenizer
from worker.protocols import LabelCounts, ModelSpec, PromptFormat, Span, Window, Words
from worker.text.combining_marks import Split
from worker.text.words import make_gap_splitter

MAX_WORDS = 384
"""Words that a model reads at once unless it says otherwise: as many as the library reads of a long text."""
PATTERNS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(f"({splitter._PATTERN.pattern})", splitter._PATTERN.flags)
    for name, splitter in ((Splitter.WHITESPACE, WhitespaceTokenSplitter), (Splitter.CHAR, CharLevelSplitter))
}
"""The library's splitters; others are those of all models."""


class ExtractorEngine(WarmUp):
    """An extractor on one device, in 32 bits."""

    lanes = 1
    express_tokens = 0

    def __init__(self, core: Any, spec: ModelSpec, device: str) -> None:
        self._core, self.device = core, device
        backend = BackendTokenizer.from_str(core.processor.tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        tokenizer = FastTokenizer(spec, backend.to_str(), splitters.WORD)
        self.spec = spec
        self.split = make_splitter(spec.splitter)
        self.encode, self.reserved = tokenizer.encode, tokenizer.reserved
        self.count_label_tokens = tokenizer.count_label_tokens
        full_stop = tuple(tokenizer.encode(["."]).ids)
        self._layout = RowTokens(core.processor.tokenizer.pad_token_id or 0, full_stop, spec.max_row_tokens)

    def prepare_labels(self, windows: Sequence[Window], on_step: Callable[[], None]) -> LabelCounts:
        """Return at once: labels are part of the rows."""
        return LabelCounts()

    def collate(self, windows: Sequence[Window]) -> Batch:
        """Return the windows as padded arrays on the CPU."""
        return collate_windows(windows, self._layout)

    def forward(self, batch: Batch) -> Any:
        """Run the model; the scores are on the CPU."""
        run: Any = run_span_model if self._core.architecture == "span" else run_boundary_model
        with translate_device_errors(), torch.inference_mode():
            return run(self._core, batch, self.device)

    def decode(self, batch: Batch, raw: Any) -> Sequence[Sequence[Span]]:
        """Return the answers to each window, in the windows' order."""
        if self._core.architecture == "span":
            return decode_spans(batch, raw)
        settings = self._core.boundary_settings
        return decode_proposals(batch, raw, Rules(settings.overlap_policy, settings.abstention_threshold))

    def release_memory(self) -> None:
        """Give cached device memory back."""
        if self.device == "cuda":
            torch.cuda.empty_cache()


def make_splitter(name: str) -> Split:
    """Return a splitter whose words are in lower case, as the models read them."""
    pattern = PATTERNS.get(name)
    split = splitters.make_splitter(name) if pattern is None else make_gap_splitter(pattern.split)

    def split_lower(text: str) -> Words:
        words, starts, ends = split(text)
        return Words([word.lower() for word in words], starts, ends)

    return split_lower


def load_engine(model: Resolved, device: str, threads: int, max_row_tokens: int, splitter: str) -> ExtractorEngine:
    """Load a model from `worker.model.sources.resolve.resolve_model` for inference.

    Raises:
        ModelBrokenError: the files do not make a model that this version can run.
        ExtraMissingError: the splitter's package is not installed.
    """
    if device == "cpu":
        torch.set_num_threads(threads)
    core = load_extractor(model.folder, device, model.files)
    name = splitters.choose_splitter(model.folder, None, splitter)
    return ExtractorEngine(core, _read_spec(core, model, max_row_tokens, name), device)


def _read_spec(core: Any, model: Resolved, max_row_tokens: int, splitter: str) -> ModelSpec:
    words = core.config.max_len or MAX_WORDS
    tokenizer = core.processor.tokenizer
    relations = core.architecture == "span" or core.enable_relations
    return ModelSpec(
        max_words=words,
        max_row_tokens=row_tokens(
            words, tokenizer.model_max_length, count_positions(core.encoder.config, core.encoder), max_row_tokens
        ),
        max_width=core.config.max_width if core.architecture == "span" else words,
        special_tokens=len(tokenizer.tokenize(".")),
        label_marker=core.processor.E_TOKEN,
        text_marker=core.processor.SEP_TEXT,
        revision=model.revision,
        calibration=model.calibration,
        splitter=splitter,
        tasks=(Task.ENTITIES, *((Task.RELATIONS,) if relations else ()), Task.CLASSIFICATIONS),
        prompt_format=PromptFormat.GLINER2,
    )
