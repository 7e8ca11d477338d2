"""Everything taken from gliner: a loaded model -> its description and its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from gliner.data_processing.tokenizer import WhitespaceTokenSplitter, WordsSplitter
from gliner.model import BiEncoderTokenGLiNER, UniEncoderTokenGLiNER, UniEncoderTokenRelexGLiNER
from tokenizers import Tokenizer as BackendTokenizer

from jobs.tasks import Task
from worker.model import splitters
from worker.model.bi_encoder import BiEncoderGraph
from worker.model.collate import Layout
from worker.model.description import ModelDescription
from worker.model.errors import ModelBrokenError
from worker.model.graph import Graph, LibraryGraph, MarkerGraph, without_packing
from worker.model.loading import BI_ENCODERS, RELEX
from worker.model.loading import load_gliner as load_gliner
from worker.model.relations.graph import RelexGraph
from worker.model.sources.resolve import Resolved
from worker.model.sources.row_limit import count_positions, row_tokens
from worker.model.splitters import Splitter
from worker.model.tokenizer import LabelLayout
from worker.protocols import ModelSpec, PromptFormat

MAX_SPECIAL_TOKENS = 16
"""Special tokens around a row. Published tokenizers add one to three."""
LABELS_INCLUDED = 16
"""Labels of a token model's row that its tokens stand for: its scorer has four vectors for each word and label."""
TOKENS = (UniEncoderTokenGLiNER, BiEncoderTokenGLiNER, UniEncoderTokenRelexGLiNER)
BI_ENCODER_LABELS = 256
"""Labels of a bi-encoder's span model that its tokens stand for: scores of 12 kB for each word, in 12 widths."""
MAX_LABELS = 2_000
MAX_LABEL_TOKENS = 512
"""Tokens of a label, if its tokenizer and encoder state no lower limit."""


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
    longest = min(tokenizer.model_max_length, count_positions(model.config.labels_encoder_config, encoder))
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
    if isinstance(model, RELEX):
        return replace(
            spec,
            tasks=(Task.ENTITIES, Task.RELATIONS),
            prompt_format=PromptFormat.RELATIONS,
            relation_marker=config.rel_token,
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
    return row_tokens(
        model.config.max_len,
        stated,
        count_positions(model.config.encoder_config, model.model.token_rep_layer.bert_layer.model),
        max_row_tokens,
    )


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
    spans = not isinstance(model, TOKENS)
    if isinstance(model, RELEX):
        return RelexGraph(model.model, tagged=not spans).eval()
    if spans and MarkerGraph.can_run(model.model):
        return MarkerGraph(model.model).eval()
    return LibraryGraph(without_packing(model.model), spans).eval()


def build_reference(model: Any, max_row_tokens: int = 0) -> tuple[Graph, Layout]:
    """Return gliner's own forward pass unchanged, and the row layout for it."""
    graph = LibraryGraph(model.model, not isinstance(model, TOKENS), isinstance(model, BI_ENCODERS)).eval()
    return graph, read_layout(model, graph.inputs, max_row_tokens)
