"""Load a checked model folder with gliner, without a network, from a private copy of its small files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from gliner import GLiNER
from gliner.config import GLiNERConfig
from gliner.model import (
    BiEncoderSpanGLiNER,
    BiEncoderTokenGLiNER,
    UniEncoderSpanGLiNER,
    UniEncoderSpanRelexGLiNER,
    UniEncoderTokenGLiNER,
    UniEncoderTokenRelexGLiNER,
)
from transformers import AutoTokenizer

from worker.model.errors import ModelBrokenError
from worker.model.sources import configs, safetensors
from worker.model.sources.folders import CONFIG, LABELS, WEIGHTS
from worker.model.sources.private_copy import (
    copy_model,
    force_offline,
    refuse_changed_weights,
    rewrite_json,
    wrap_library_errors,
)

SPARE_WEIGHTS = 32_000_000
"""Weights that a model may have beyond twice those in its file: unused poolers, tables of positions."""
SPARE_TOKENS = 4_096
BI_ENCODERS = (BiEncoderSpanGLiNER, BiEncoderTokenGLiNER)
RELEX = (UniEncoderSpanRelexGLiNER, UniEncoderTokenRelexGLiNER)
"""Models for entities and relations."""
ARCHITECTURES = (UniEncoderSpanGLiNER, UniEncoderTokenGLiNER, *BI_ENCODERS, *RELEX)


def load_gliner(folder: Path, device: str, files: Mapping[str, str] | None = None) -> Any:
    """Return the model as loaded by gliner, with all its weights from the file.

    Args:
        folder: a model's folder.
        device: the torch device for its weights.
        files: SHA-256 of the files when they were checked, by name; without it they are checked only now.

    Returns:
        The model, which cuts texts at blanks; its configuration still names its own splitter.

    Raises:
        ModelBrokenError: the files do not make a model that this version can run, or changed since they were
            checked.
    """
    with copy_model(folder, files or {}) as copy:
        _remove_paths(copy)
        # A splitter may need packages, or fetch models: `worker.model.splitters` makes it.
        splitter = configs.load_json(copy / CONFIG).get("words_splitter_type", "whitespace")
        rewrite_json(copy / CONFIG, {"words_splitter_type": "whitespace"})
        shapes = safetensors.read_shapes(copy / WEIGHTS)
        with force_offline(), wrap_library_errors(folder):
            _refuse_oversized(folder, copy, shapes)
            model = GLiNER.from_pretrained(str(copy), local_files_only=True, map_location=device)
    if type(model) not in ARCHITECTURES:
        name = type(model).__name__
        raise ModelBrokenError(f"{folder}: architecture {name} is not supported; use a uni-encoder.")
    aliases = safetensors.read_aliases(folder / WEIGHTS)
    missing = _missing_weights(model.model.state_dict(), shapes.keys() | aliases, isinstance(model, BI_ENCODERS))
    if missing:
        raise ModelBrokenError(f"{folder}: {len(missing)} weights are not in the file, such as {missing[0]}.")
    refuse_changed_weights(folder, files or {})
    model.config.words_splitter_type = splitter
    return model


def _remove_paths(copy: Path) -> None:
    """Remove references to other files on this machine from a copy's configurations."""
    config = configs.load_json(copy / CONFIG)
    # gliner looks for adapters in the folder `model_name`, whatever that is on this machine.
    names = [name for name in ("model_name", "labels_encoder") if config.get(name)]
    rewrite_json(copy / CONFIG, dict.fromkeys(("model_name", *names), str(copy)))
    if (copy / "config.json").is_file() and "model_type" not in configs.load_json(copy / "config.json"):
        (copy / "config.json").unlink()  # transformers would guess its type from the folder's name
    if not isinstance(config.get("encoder_config"), dict):
        raise ModelBrokenError(f"{copy}: encoder_config is missing.")


def _refuse_oversized(folder: Path, copy: Path, shapes: Mapping[str, safetensors.Shape]) -> None:
    """Build the model without memory for its weights, and compare its size with the file's."""
    content = json.loads((copy / CONFIG).read_bytes())
    content.pop("model_type", None)
    tokens = content.get("span_mode") == "token_level"
    if content.get("labels_encoder"):
        kind: Any = BiEncoderTokenGLiNER if tokens else BiEncoderSpanGLiNER
        config = kind.config_class(**content)
    elif content.get("relations_layer") is not None:
        kind = UniEncoderTokenRelexGLiNER if tokens else UniEncoderSpanRelexGLiNER
        config = kind.config_class(**content)
    else:
        kind = UniEncoderTokenGLiNER if tokens else UniEncoderSpanGLiNER
        config = GLiNERConfig(**content)
    with torch.device("meta"):
        core = kind.model_class(config, False)
    described = sum(tensor.numel() for tensor in chain(core.parameters(), core.buffers()))
    stored = sum(prod(shape) for shape in shapes.values())
    if described > 2 * stored + SPARE_WEIGHTS:
        raise ModelBrokenError(
            f"{folder / CONFIG}: describes a model of {described:,} weights, but {WEIGHTS} holds {stored:,}."
        )
    rows = max((shape[0] for shape in shapes.values() if len(shape) == 2), default=0)
    for path in (copy, copy / LABELS) if content.get("labels_encoder") else (copy,):
        # B615 wants a revision; this is a local folder, and the hub's client is offline.
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)  # nosec B615
        if len(tokenizer) > rows + SPARE_TOKENS:
            raise ModelBrokenError(
                f"{folder}: a tokenizer has {len(tokenizer):,} tokens, but no table in {WEIGHTS} has as many."
            )


def _missing_weights(state: Mapping[str, torch.Tensor], names: Set[str], bi_encoder: bool = False) -> list[str]:
    """Return the weights that gliner silently left at random values: in the model, but not in its file."""
    shared = {state[name].data_ptr() for name in names if name in state}
    return sorted(
        name
        for name, value in state.items()
        # GLiNER never runs BERT's pooler, which is built, nor a bi-encoder's LSTM; tied weights are stored once.
        if name not in names
        and ".pooler." not in name
        and not (bi_encoder and name.startswith("rnn."))
        and value.data_ptr() not in shared
    )
