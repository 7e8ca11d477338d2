"""Load a checked extractor folder into gliner2's layers, from a private copy of its small files."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from gliner2.configuration import ExtractorConfig
from gliner2.models.base import load_extractor_tokenizer
from gliner2.models.boundary.model import BoundaryExtractorModel
from gliner2.models.span.model import SpanExtractorModel
from transformers import AutoConfig

from worker.model.errors import ModelBrokenError
from worker.model.sources import safetensors
from worker.model.sources.folders import ENCODER, WEIGHTS
from worker.model.sources.private_copy import copy_model, force_offline, refuse_changed_weights, wrap_library_errors

ARCHITECTURES = {"span": SpanExtractorModel, "boundary": BoundaryExtractorModel}
SPARE_WEIGHTS = 32_000_000
"""Weights that a model may have beyond twice those in its file."""


def load_extractor(folder: Path, device: str, files: Mapping[str, str] | None = None) -> Any:
    """Return the model, with all its weights from the file.

    Args:
        folder: a model's folder.
        device: the torch device for its weights.
        files: SHA-256 of the files when they were checked, by name; without it they are checked only now.

    Raises:
        ModelBrokenError: the files do not make a model that this version can run, or changed since they were
            checked.
    """
    with copy_model(folder, files or {}) as copy, force_offline(), wrap_library_errors(folder):
        config = ExtractorConfig.from_pretrained(str(copy))
        kind: Any = ARCHITECTURES[config.architecture]
        _refuse_oversized(folder, copy, kind, config)
        model = kind.from_pretrained(str(copy), config=config, map_location=device, attention_backend="standard")
    refuse_changed_weights(folder, files or {})
    return model.eval()


def _refuse_oversized(folder: Path, copy: Path, kind: Any, config: Any) -> None:
    """Build the model without memory for its weights, and compare its size with the file's."""
    tokenizer = load_extractor_tokenizer(str(copy))
    # B615 wants a revision; this is a local folder, and the hub's client is offline.
    encoder = AutoConfig.from_pretrained(  # nosec B615
        str(copy / ENCODER), local_files_only=True, trust_remote_code=False
    )
    with torch.device("meta"):
        model = kind(config, encoder_config=encoder, tokenizer=tokenizer, use_flashdeberta=False)
    described = sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    stored = sum(prod(shape) for shape in safetensors.read_shapes(copy / WEIGHTS).values())
    if described > 2 * stored + SPARE_WEIGHTS:
        raise ModelBrokenError(
            f"{folder}: its configuration describes a model of {described:,} weights, but {WEIGHTS} holds "
            f"{stored:,}."
        )
