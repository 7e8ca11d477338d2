"""Everything taken from gliner: a loaded model -> its description and its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from gliner.data_processing.tokenizer import WhitespaceTokenSplitter, WordsSplitter
from gliner.model import BiEncoderSpanGLiNER, BiEncoderTokenGLiNER, UniEncoderSpanGLiNER, UniEncoderTokenGLiNER
from tokenizers import Tokenizer as BackendTokenizer

from worker.model import splitters
from worker.model.bi_encoder import BiEncoderGraph
from worker.model.collate import Layout
from worker.model.description import ModelDescription
from worker.model.errors import ModelBrokenError
from worker.model.graph import Graph, LibraryGraph, MarkerGraph, without_packing
from worker.model.loading import BI_ENCODERS
from worker.model.loading import load_gliner as load_gliner
from worker.model.sources.resolve import Resolved
from worker.model.splitters import Splitter
from worker.model.tokenizer import LabelLayout
from worker.protocols import ModelSpec, PromptFormat

MAX_SPECIAL_TOKENS = 16
"""Special tokens around a row. Published tokenizers add one to three."""
LABELS_INCLUDED = 16
"""Labels of a token model's row that its tokens stand for: its scorer has four vectors for each word and label."""
SPANS = (UniEncoderSpanGLiNER, BiEncoderSpanGLiNER)
TOKENS = (UniEncoderTokenGLiNER, BiEncoderTokenGLiNER)
BI_ENCODER_LABELS = 256
"""Labels of a bi-encoder's span model that its tokens stand for: scores of 12 kB for each word, in 12 widths."""
MAX_LABELS = 2_000
MAX_LABEL_TOKENS = 512
"""Tokens of a label, if its tokenizer and encoder state no lower limit."""
POSITION_TABLES = ("position_embeddings", "embed_positions")
TOKENS_PER_WORD = 2
"""Tokens per word that a row may have. Running text takes 1.3 (English) to 1.8 (Finnish, Turkish); the rest is for
labels."""
LIMIT_STEP = 512
MAX_ROW_TOKENS = 4096
"""Most tokens of a row, however many words the model reads, if it states no lower limit."""
MIN_ROW_TOKENS = 32
"""Fewest tokens with which a row has room for labels and text."""


def describe_model(
    model: Any, source: Resolved, inputs: Sequence[str], max_row_tokens: int = 0, splitter: str = Splitter.MODEL
) -> ModelDescription:
    """Return everything that is needed of the model in addition to its graph.

    Args:
        model: as loaded by gliner.
        source: the folder it was loaded from.
        inputs: the input names of its graph.
        max_row_tokens: tokens that a row may have, unless tokenizer or encoder allow fewer; 0: derived from words.
        splitter: cuts texts into words instead of the model's own splitter.

    Raises:
        ModelError: rows are too long or too short, or the splitter is not available.
    """
    name = splitters.choose_splitter(source.folder, model.config.words_splitter_type, splitter)
    return ModelDescription(
        spec=_read_spec(model, source, max_row_tokens, name),
        layout=read_layout(model, inputs, max_row_tokens),
        tagged=isinstance(model, TOKENS),
        word_pattern=WhitespaceTokenSplitter().whitespace_pattern.pattern if name == Splitter.WHITESPACE else "",
        tokenizer_json=_serialise_tokenizer(model.data_processor.transformer_tokenizer),
        labels=_read_label_layout(model) if isinstance(model, BI_ENCODERS) else None,
    )


def _serialise_tokenizer(tokenizer: Any) -> str:
    """Return a tokenizer of transformers as JSON, without truncation and padding."""
    backend = BackendTokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return str(backend.to_str())


def _read_label_layout(model: Any) -> LabelLayout:
    """Return the rows of the label encoder, as long as its tokenizer and its positions allow."""
    tokenizer, encoder = model.data_processor.labels_tokenizer, model.model.token_rep_layer.labels_encoder.model
    longest = min(tokenizer.model_max_length, _position_count(model.config.labels_encoder_config, encoder))
    return LabelLayout(
        tokenizer_json=_serialise_tokenizer(tokenizer),
        pad_id=tokenizer.pad_token_id or 0,
        longest=int(min(longest, MAX_LABEL_TOKENS)),
    )


def load_splitter(name: str) -> Callable[[str], Iterable[tuple[str, int, int]]]:
    """Return a splitter that yields word, start and end, for models that need more than a regular expression."""
    splitter: Callable[[str], Iterable[tuple[str, int, int]]] = WordsSplitter(name)
    return splitter


def _read_spec(model: Any, source: Resolved, max_row_tokens: int, splitter: str) -> ModelSpec:
    """Return the model's limits."""
    tokenizer, config = model.data_processor.transformer_tokenizer, model.config
    special = tokenizer.num_special_tokens_to_add()
    if special > MAX_SPECIAL_TOKENS:
        raise ModelBrokenError(
            f"the tokenizer adds {special:,} tokens to every row; {MAX_SPECIAL_TOKENS} are allowed."
        )
    spec = ModelSpec(
        max_words=config.max_len,
        max_row_tokens=_row_limit(model, max_row_tokens),
        max_width=getattr(config, "max_width", None) or 12,
        special_tokens=special,
        label_marker=model.data_processor.ent_token,
        text_marker=model.data_processor.sep_token,
        revision=source.revision,
        calibration=source.calibration,
        splitter=splitter,
        default_threshold=_default_threshold(config),
        labels_included=LABELS_INCLUDED if isinstance(model, TOKENS) else 0,
    )
    return _with_labels(spec, model) if isinstance(model, BI_ENCODERS) else spec


def _with_labels(spec: ModelSpec, model: Any) -> ModelSpec:
    """Return the limits of a bi-encoder. One that fuses reads a text's labels together, as a uni-encoder does."""
    tokenizer, labels = model.data_processor.labels_tokenizer, _read_label_layout(model)
    fuses = bool(model.config.post_fusion_schema)
    return replace(
        spec,
        prompt_format=PromptFormat.NONE,
        max_labels=0 if fuses else MAX_LABELS,
        max_label_tokens=labels.longest - tokenizer.num_special_tokens_to_add(),
        labels_included=LABELS_INCLUDED if fuses else spec.labels_included or BI_ENCODER_LABELS,
    )


def _default_threshold(config: Any) -> float | None:
    """Return the threshold in a model's configuration; None where there is none between 0 and 1."""
    value = getattr(config, "default_threshold", None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None


def _row_limit(model: Any, max_row_tokens: int) -> int:
    """Return the tokens that a row may have."""
    stated = model.data_processor.transformer_tokenizer.model_max_length
    encoder = model.model.token_rep_layer.bert_layer.model
    positions = _position_count(model.config.encoder_config, encoder)
    return row_tokens(model.config.max_len, stated, positions, max_row_tokens)


def row_tokens(max_words: int, stated: float, positions: float, wanted: int = 0) -> int:
    """Return the tokens that a row may have, prompt and special tokens included.

    By default twice as many as words, rounded up to 512. The cost of attention grows with the square of a row, and
    tokenizers of DeBERTa-v3, mDeBERTa and mT5 state no limit, those of ModernBERT one of 8,192: a word of 40 kB, or
    a hundred long labels, would be a row that no machine can run.

    Args:
        max_words: words that the model reads at once.
        stated: the tokenizer's limit; 10^30 where it has none.
        positions: positions that the encoder has embeddings for; infinite where it needs none.
        wanted: the operator's limit instead of the default; 0: none. It cannot raise the tokenizer's or the
            encoder's limit.

    Raises:
        ModelBrokenError: rows would be too short for any text.
    """
    default = min(MAX_ROW_TOKENS, max(1, -(-TOKENS_PER_WORD * max_words // LIMIT_STEP)) * LIMIT_STEP)
    limit = min(stated, positions, wanted or default)
    if not limit >= MIN_ROW_TOKENS:
        raise ModelBrokenError(
            f"the tokenizer's model_max_length or the encoder's positions allow {limit} tokens per row; labels and "
            f"text need at least {MIN_ROW_TOKENS}. Correct the model's configuration."
        )
    return int(limit)


def _position_count(config: Any, encoder: Any) -> float:
    """Return the number of positions that an encoder has embeddings for; infinite where positions are relative."""
    numbered = getattr(config, "position_embedding_type", "absolute") == "absolute"
    relative = not numbered or getattr(config, "relative_attention", False)
    limits = [inf if relative else getattr(config, "max_position_embeddings", inf)]
    for name, table in encoder.named_modules():
        if name.rpartition(".")[2] in POSITION_TABLES and hasattr(table, "weight"):
            filler = getattr(table, "padding_idx", None)  # RoBERTa counts from the position after the padding's
            limits.append(table.weight.shape[0] - (0 if filler is None else filler + 1))
    return min(limits)


def read_layout(model: Any, inputs: Sequence[str], max_row_tokens: int = 0) -> Layout:
    """Return the row layout that the model expects when its graph has these inputs."""
    tokenizer = model.data_processor.transformer_tokenizer
    before, after = _special_tokens(tokenizer, model.data_processor.sep_token)
    return Layout(
        before=before,
        after=after,
        pad_id=tokenizer.pad_token_id or 0,
        pad_left=tokenizer.padding_side == "left",
        longest=_row_limit(model, max_row_tokens),
        pooling=getattr(model.config, "subtoken_pooling", None) or "first",
        span_width=model.config.max_width if "span_idx" in inputs else 0,
    )


def _special_tokens(tokenizer: Any, word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the token ids that the tokenizer puts before and after a row."""
    encoding = tokenizer([[word]], is_split_into_words=True)
    words, ids = encoding.word_ids(0), encoding["input_ids"][0]
    real = [i for i, number in enumerate(words) if number is not None]
    return tuple(ids[: real[0]]), tuple(ids[real[-1] + 1 :])


def build_graph(model: Any) -> Graph:
    """Return the cheapest forward pass that gives the model's scores."""
    if isinstance(model, BI_ENCODERS):
        return BiEncoderGraph(model.model).eval()
    spans = isinstance(model, SPANS)
    if spans and MarkerGraph.can_run(model.model):
        return MarkerGraph(model.model).eval()
    return LibraryGraph(without_packing(model.model), spans).eval()


def build_reference(model: Any, max_row_tokens: int = 0) -> tuple[Graph, Layout]:
    """Return gliner's own forward pass unchanged, and the row layout for it."""
    graph = LibraryGraph(model.model, isinstance(model, SPANS), isinstance(model, BI_ENCODERS)).eval()
    return graph, read_layout(model, graph.inputs, max_row_tokens)
