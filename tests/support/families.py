"""Small checkpoints with random weights of every kind of model, built by gliner itself, each in about a second.

`build(Family(backbone=Backbone.MT5, lstm_layers=0), folder)` writes one; tests take the fixture `checkpoint`, which
keeps each for the whole run. The weights are scaled so that scores are spread between 0 and 1, and words and labels
change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import gliner.config
import gliner.model
import torch
from transformers import AutoConfig, GPT2Config

from tests.support.scripts import SCRIPTS
from tests.support.tokenizers import BOTH_ENDS, Pieces, make_tokenizer

HIDDEN = 48
SPREAD = 2.0
"""Standard deviation of the scores' logits."""
ABOVE = 0.1
"""Part of all scores that is above the usual threshold, 0.5: an entity in every few words."""
LABELS = ("person", "organization", "location", "date", "place", "event", "product", "company")


class Backbone(StrEnum):
    """Kinds of encoder; a value is transformers' `model_type`, but for the two that share DeBERTa's."""

    DEBERTA = "deberta-v3"
    MDEBERTA = "mdeberta-v3"
    BERT = "bert"
    ELECTRA = "electra"
    DISTILBERT = "distilbert"
    XLMR = "xlm-roberta"
    MODERNBERT = "modernbert"
    MT5 = "mt5"


class Weights(StrEnum):
    """Files that weights are written to."""

    SAFETENSORS = "model.safetensors"
    PICKLE = "pytorch_model.bin"


PIECES = {
    Backbone.DEBERTA: Pieces.UNIGRAM_BERT,
    Backbone.MDEBERTA: Pieces.UNIGRAM_BERT,
    Backbone.BERT: Pieces.WORDPIECE,
    Backbone.ELECTRA: Pieces.WORDPIECE,
    Backbone.DISTILBERT: Pieces.WORDPIECE,
    Backbone.XLMR: Pieces.UNIGRAM_XLMR,
    Backbone.MODERNBERT: Pieces.BYTE_BPE,
    Backbone.MT5: Pieces.UNIGRAM_T5,
}


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        backbone: its encoder.
        architecture: gliner's class without "GLiNER": UniEncoderSpan, UniEncoderToken, BiEncoderSpan,
            BiEncoderToken, UniEncoderSpanRelex, UniEncoderTokenRelex, UniEncoderSpanDecoder,
            UniEncoderTokenDecoder.
        lstm_layers: of the bidirectional LSTM over the words; 0: none.
        pooling: pieces that stand for a word: first, last, mean or max.
        embed_ent_token: a label's vector is that of its marker; else that of the piece after it.
        span_mode: how a span model scores spans; None: the architecture's usual way.
        model_max_length: the tokenizer's limit in tokens; None: it names none, as DeBERTa-v3's and mT5's.
        max_words: `max_len`.
        max_width: longest entity in words.
        vocabulary: tokens of the tokenizer.
        layers: of the encoder.
        hidden: its width; a multiple of 12.
        seed: of the weights.
        config: other keys of gliner_config.json, such as `fuse_layers`.
        encoder: other keys of the encoder's configuration.
    """

    backbone: Backbone = Backbone.DEBERTA
    architecture: str = "UniEncoderSpan"
    lstm_layers: int = 1
    pooling: str = "first"
    embed_ent_token: bool = True
    span_mode: str | None = None
    model_max_length: int | None = 512
    max_words: int = 64
    max_width: int = 6
    vocabulary: int = 1200
    layers: int = 2
    hidden: int = HIDDEN
    seed: int = 7
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    encoder: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        """Return the differences from the usual model, as a test's id."""
        values = {name.name: getattr(self, name.name) for name in fields(self)}
        usual = {name.name: getattr(_USUAL, name.name) for name in fields(self)} if self is not _USUAL else values
        changed = [f"{name}={value}" for name, value in values.items() if value != usual[name]]
        return ",".join(changed) or "usual"


_USUAL = Family()


def build(family: Family, folder: Path, weights: Weights = Weights.SAFETENSORS) -> Path:
    """Write the checkpoint, which a folder or a hub would hold; return its folder."""
    torch.manual_seed(family.seed)
    tokenizer = make_tokenizer(PIECES[family.backbone], family.vocabulary, family.model_max_length)
    added = ["<<ENT>>", "<<SEP>>", *(["<<REL>>"] if "Relex" in family.architecture else [])]
    tokenizer.add_tokens(added, special_tokens=True)
    content = {
        "model_name": f"owner/{family.backbone}",
        "name": "test",
        "encoder_config": make_encoder_config(family, tokenizer).to_dict(),
        "vocab_size": len(tokenizer),
        "class_token_index": tokenizer.convert_tokens_to_ids("<<ENT>>"),
        "hidden_size": 32,
        "max_len": family.max_words,
        "max_width": family.max_width,
        "subtoken_pooling": family.pooling,
        "num_rnn_layers": family.lstm_layers,
        "embed_ent_token": family.embed_ent_token,
        **({"span_mode": family.span_mode} if family.span_mode else {}),
    }
    parts, settings = _other_parts(family, tokenizer)
    config = getattr(gliner.config, f"{family.architecture}Config")(**content | settings | dict(family.config))
    model = getattr(gliner.model, f"{family.architecture}GLiNER")(config, tokenizer=tokenizer, **parts).eval()
    if "Decoder" not in family.architecture:  # which is refused before it is loaded
        _spread(model, family.seed)
    model.save_pretrained(folder, safe_serialization=weights is Weights.SAFETENSORS)
    return folder


def make_encoder_config(family: Family, tokenizer: Any) -> Any:
    """Return the encoder's configuration; heads and layers as small as they may be."""
    hidden, size = family.hidden, len(tokenizer)
    common = {"vocab_size": size, "hidden_size": hidden, "num_hidden_layers": family.layers,
              "num_attention_heads": 4, "intermediate_size": 2 * hidden, "max_position_embeddings": 512,
              "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    deberta = {**common, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 32,
               "max_relative_positions": -1, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
               "share_att_key": True, "norm_rel_ebd": "layer_norm", "layer_norm_eps": 1e-7}  # fmt: skip
    ends = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    kind, content = {
        Backbone.DEBERTA: ("deberta-v2", deberta),
        Backbone.MDEBERTA: ("deberta-v2", deberta),
        Backbone.BERT: ("bert", common),
        Backbone.ELECTRA: ("electra", {**common, "embedding_size": hidden}),
        Backbone.DISTILBERT: ("distilbert", {"vocab_size": size, "dim": hidden, "n_layers": family.layers,
                              "n_heads": 4, "hidden_dim": 2 * hidden, "max_position_embeddings": 512,
                              "pad_token_id": tokenizer.pad_token_id}),
        Backbone.XLMR: ("xlm-roberta", {**common, **ends, "max_position_embeddings": 514, "type_vocab_size": 1}),
        Backbone.MODERNBERT: ("modernbert", {**common, **ends, "max_position_embeddings": 8192,
                              "local_attention": 32, "global_attn_every_n_layers": 2,
                              "cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}),
        Backbone.MT5: ("mt5", {"vocab_size": size, "d_model": hidden, "d_kv": hidden // 4, "d_ff": 2 * hidden,
                       "num_layers": family.layers, "num_heads": 4, "pad_token_id": tokenizer.pad_token_id,
                       "eos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": tokenizer.pad_token_id}),
    }[family.backbone]  # fmt: skip
    return AutoConfig.for_model(kind, **content | dict(family.encoder))


def _other_parts(family: Family, tokenizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tokenizers and configuration that the architecture has in addition to its encoder."""
    if family.architecture.startswith("BiEncoder"):
        second = Family(backbone=Backbone.BERT, hidden=family.hidden)
        labels = make_tokenizer(Pieces.WORDPIECE, second.vocabulary, 512)
        content = {
            "labels_encoder": "owner/labels",
            "labels_encoder_config": make_encoder_config(second, labels).to_dict(),
        }
        return {"labels_tokenizer": labels}, content
    if family.architecture.endswith("Relex"):
        marker = tokenizer.convert_tokens_to_ids("<<REL>>")
        return {}, {"relations_layer": "bilinear", "triples_layer": "DistMult", "rel_token_index": marker}
    if family.architecture.endswith("Decoder"):
        decoder = make_tokenizer(Pieces.BYTE_BPE, family.vocabulary, 128)
        decoder.pad_token, (decoder.bos_token, decoder.eos_token) = "[PAD]", BOTH_ENDS
        gpt = GPT2Config(
            vocab_size=len(decoder), n_positions=128, n_embd=family.hidden, n_layer=1, n_head=4,
            bos_token_id=decoder.bos_token_id, eos_token_id=decoder.eos_token_id,
        )  # fmt: skip
        content = {"labels_decoder": "owner/gpt", "decoder_mode": "span", "labels_decoder_config": gpt.to_dict()}
        return {"decoder_tokenizer": decoder}, content
    return {}, {}


def _spread(model: Any, seed: int) -> None:
    """Give the weights a trained model's sizes, then scale and move the scores by the last layers."""
    core, generator = model.model, torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in core.named_parameters():
            if weight.dim() >= 2:
                scale = 0.5 if "embed" in name else weight.shape[-1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
        last = core.scorer.out_mlp[-1] if hasattr(core, "scorer") else core.prompt_rep_layer[-1]
        for _ in range(3):  # to move the scores spreads them a little, and the other way round
            logits, spans = _scores(model)
            factor = SPREAD / max(float(logits.std()), 1e-6)
            last.weight.mul_(factor)
            last.bias.mul_(factor)
            missing = -factor * float(logits.quantile(1 - ABOVE))
            # A span's score is its vector times the label's: the addend of all labels must be like most spans.
            last.bias.add_(missing if hasattr(core, "scorer") else missing * spans / spans.square().sum())


def _scores(model: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the logits of texts in many scripts, and the mean of the spans' vectors where a model has such."""
    splitter, spans = model.data_processor.words_splitter, []
    layer = getattr(model.model, "span_rep_layer", None)
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: spans.append(output)) if layer else None
    rows = [[word for word, *_ in splitter(text)][: model.config.max_len] for text in SCRIPTS.values()]
    more = {"relations": None} if "Relex" in type(model).__name__ else {}
    batch = model.collate_batch(
        [{"tokenized_text": row, "ner": None, **more} for row in rows], [*LABELS], model.create_collator()
    )
    logits = model.run_batch(batch, threshold=0.99).logits.float()
    if hook:
        hook.remove()
    means = [output.reshape(-1, output.shape[-1]).mean(0) for output in spans]
    real = torch.cat([scores[: len(row)].flatten() for scores, row in zip(logits, rows, strict=True)])
    return real, torch.stack(means).mean(0) if means else None
