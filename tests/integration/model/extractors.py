"""Small GLiNER2 and GLiNER2.5 checkpoints with random weights, built by gliner2 itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gliner2.configuration import ExtractorConfig
from gliner2.inference.engine import SpanExtractor
from gliner2.models.boundary.engine import BoundaryExtractor

from tests.support.families import PIECES, SPREAD, Backbone, Family, make_encoder_config
from tests.support.scripts import SCRIPTS
from tests.support.tokenizers import make_tokenizer


@dataclass(frozen=True)
class Extractor:
    """A kind of checkpoint.

    Attributes:
        architecture: `span` or `boundary`.
        backbone: its encoder.
        counting_layer: the layer of span models that makes queries.
        head: other settings of a boundary model's head.
    """

    architecture: str = "span"
    backbone: Backbone = Backbone.DEBERTA
    counting_layer: str = "count_lstm"
    head: Mapping[str, Any] = field(default_factory=dict, hash=False)


def build_extractor(kind: Extractor, folder: Path) -> Path:
    """Write the checkpoint, which a folder or a hub would hold; return its folder."""
    torch.manual_seed(7)
    family = Family(backbone=kind.backbone)
    tokenizer = make_tokenizer(PIECES[kind.backbone], family.vocabulary, None)
    encoder = make_encoder_config(family, tokenizer)
    if kind.architecture == "span":
        config = ExtractorConfig(
            model_name="owner/encoder", max_len=48, max_width=6, counting_layer=kind.counting_layer
        )
        model: Any = SpanExtractor(config, encoder_config=encoder, tokenizer=tokenizer)
    else:
        head = {"boundary_dim": 16, "pair_dim": 16, "record_dim": 16, **kind.head}
        config = ExtractorConfig(
            model_name="owner/encoder", max_len=48, architecture="boundary", boundary_head=head
        )
        model = BoundaryExtractor(config, encoder_config=encoder, tokenizer=tokenizer)
    _spread(model)
    model.eval().save_pretrained(str(folder))
    return folder


def _spread(model: Any) -> None:
    """Give the weights a trained model's sizes, so that words and labels change the scores."""
    generator = torch.Generator().manual_seed(7)
    gain = 1.4 if isinstance(model, SpanExtractor) else 0.7
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2:
                scale = 0.5 if "embed" in name else gain * weight.shape[-1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
        if isinstance(model, SpanExtractor):
            logits = _span_logits(model.eval())
            last = model.span_rep.span_rep_layer.out_project[-1]
            last.weight.mul_(SPREAD / float(logits.std()))
            last.bias.mul_(SPREAD / float(logits.std()))


def _span_logits(model: Any) -> torch.Tensor:
    logits: list[torch.Tensor] = []
    score = model.compute_span_scores_batched

    def record(*args: Any, **options: Any) -> Any:
        scores = score(*args, **options)
        logits.extend(scores)
        return scores

    model.compute_span_scores_batched = record
    model.batch_extract([*SCRIPTS.values()], {"entities": ["person", "place"]})
    del model.compute_span_scores_batched
    flat = torch.cat([scores.flatten() for scores in logits])
    return flat[flat.isfinite()]
