"""What we take from gliner: a loaded model becomes its description and its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gliner.data_processing.tokenizer import WhitespaceTokenSplitter, WordsSplitter
from gliner.model import UniEncoderSpanGLiNER, UniEncoderTokenGLiNER
from tokenizers import Tokenizer as BackendTokenizer

from worker.collate import Layout
from worker.contract import ModelSpec
from worker.graph import Graph, LibraryGraph, MarkerGraph
from worker.loading import load_gliner as load_gliner
from worker.models import ModelBrokenError, Resolved
from worker.parts import Described

MAX_SPECIAL_TOKENS = 16
"""Tokens around a row. Published tokenizers add one to three."""


def described(model: Any, source: Resolved, inputs: Sequence[str]) -> Described:
    """What there is to know of the model beside its graph, which has these inputs."""
    backend = BackendTokenizer.from_str(model.data_processor.transformer_tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    words = model.data_processor.words_splitter.splitter
    return Described(
        spec=_spec(model, source),
        layout=layout(model, inputs),
        tagged=isinstance(model, UniEncoderTokenGLiNER),
        word=words.whitespace_pattern.pattern if type(words) is WhitespaceTokenSplitter else "",
        splitter=model.config.words_splitter_type,
        pieces=backend.to_str(),
    )


def splitter(name: str) -> Callable[[str], Iterable[tuple[str, int, int]]]:
    """What yields word, start and end for models that need more than a regular expression."""
    found: Callable[[str], Iterable[tuple[str, int, int]]] = WordsSplitter(name)
    return found


def _spec(model: Any, source: Resolved) -> ModelSpec:
    """Return the model's limits.

    Raises:
        ModelBrokenError: the tokenizer makes rows longer than any model needs.
    """
    tokenizer, config = model.data_processor.transformer_tokenizer, model.config
    special = tokenizer.num_special_tokens_to_add()
    if special > MAX_SPECIAL_TOKENS:
        raise ModelBrokenError(
            f"the tokenizer adds {special:,} tokens to every row; {MAX_SPECIAL_TOKENS} are allowed."
        )
    return ModelSpec(
        max_words=config.max_len,
        max_pieces=_max_pieces(model),
        max_width=getattr(config, "max_width", None) or 12,
        special_pieces=special,
        label_marker=model.data_processor.ent_token,
        text_marker=model.data_processor.sep_token,
        revision=source.revision,
        calibration=source.calibration,
    )


def _max_pieces(model: Any) -> int:
    """Pieces a row may have: the tokenizer's limit, and that of positions that are numbered."""
    encoder, limit = model.config.encoder_config, model.data_processor.transformer_tokenizer.model_max_length
    numbered = getattr(encoder, "position_embedding_type", "absolute") == "absolute"
    if numbered and not getattr(encoder, "relative_attention", False):
        limit = min(limit, getattr(encoder, "max_position_embeddings", limit))
    return int(limit)


def layout(model: Any, inputs: Sequence[str]) -> Layout:
    """How the model wants its rows, its graph having these inputs."""
    tokenizer = model.data_processor.transformer_tokenizer
    before, after = _special(tokenizer, model.data_processor.sep_token)
    return Layout(
        before=before,
        after=after,
        pad_id=tokenizer.pad_token_id or 0,
        pad_left=tokenizer.padding_side == "left",
        longest=_max_pieces(model),
        pooling=getattr(model.config, "subtoken_pooling", None) or "first",
        span_width=model.config.max_width if "span_idx" in inputs else 0,
    )


def _special(tokenizer: Any, word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The pieces that the tokenizer puts around a row."""
    encoding = tokenizer([[word]], is_split_into_words=True)
    words, ids = encoding.word_ids(0), encoding["input_ids"][0]
    real = [i for i, number in enumerate(words) if number is not None]
    return tuple(ids[: real[0]]), tuple(ids[real[-1] + 1 :])


def graph(model: Any) -> Graph:
    """The model's forward pass, by the cheapest way to the same scores."""
    spans = isinstance(model, UniEncoderSpanGLiNER)
    if spans and MarkerGraph.fits(model.model):
        return MarkerGraph(model.model).eval()
    return LibraryGraph(model.model, spans).eval()
