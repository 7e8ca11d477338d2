"""A checked model folder becomes a private copy of what is read of it, and gliner loads that, without a network.

What is checked and what is loaded are the same bytes: small files are copied, then checked, then loaded from there.
The weights, which are data whatever they hold, stay where they are and are hashed after loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from gliner import GLiNER
from gliner.config import GLiNERConfig
from gliner.model import UniEncoderSpanGLiNER, UniEncoderTokenGLiNER
from transformers import AutoTokenizer

from worker.model.errors import ModelBrokenError
from worker.model.sources import configs, safetensors
from worker.model.sources.checksums import hash_file
from worker.model.sources.folders import CALIBRATION, CONFIG, SIZES, TOKENIZER, WEIGHTS, read

SPARE_WEIGHTS = 32_000_000
"""Weights that a model may have beyond twice those in its file: poolers that nobody reads, tables of positions."""
SPARE_TOKENS = 4_096


def load_gliner(folder: Path, device: str, files: Mapping[str, str] | None = None) -> Any:
    """Return the model as gliner loads it, all its weights from the file.

    Args:
        folder: a model's folder.
        device: where its weights go.
        files: SHA-256 of the files as they were checked, by name; without it they are only checked now.

    Returns:
        The model, which cuts texts at blanks; its configuration still names its own splitter.

    Raises:
        ModelBrokenError: the files do not make a model this version can run, or are others than were checked.
    """
    with _temporary() as copy:
        _stage(folder, copy, files or {})
        configs.check(copy)
        # A splitter may need packages, or fetch models: `worker.text.splitters` makes the one that is used.
        splitter = configs.load(copy / CONFIG).get("words_splitter_type", "whitespace")
        _rewrite(copy / CONFIG, {"words_splitter_type": "whitespace"})
        shapes = safetensors.read_shapes(copy / WEIGHTS)
        with _offline(), explained(folder):
            _refuse_oversized(folder, copy, shapes)
            model = GLiNER.from_pretrained(str(copy), local_files_only=True, map_location=device)
    if type(model) not in (UniEncoderSpanGLiNER, UniEncoderTokenGLiNER):
        name = type(model).__name__
        raise ModelBrokenError(f"{folder}: architecture {name} is not supported; use a uni-encoder.")
    aliases = safetensors.read_aliases(folder / WEIGHTS)
    missing = _missing_weights(model.model.state_dict(), shapes.keys() | aliases)
    if missing:
        raise ModelBrokenError(f"{folder}: {len(missing)} weights are not in the file, {missing[0]} first.")
    expected = (files or {}).get(WEIGHTS)
    if expected and hash_file(folder / WEIGHTS) != expected:
        raise _changed(folder / WEIGHTS)
    model.config.words_splitter_type = splitter
    return model


@contextmanager
def _temporary() -> Iterator[Path]:
    try:
        temporary = tempfile.TemporaryDirectory(prefix="gleaner-model-")
    except OSError as error:
        raise ModelBrokenError(
            f"no temporary folder to load the model from ({error}). Set TMPDIR to one that is writable."
        ) from error
    with temporary as name:
        yield Path(name, "model")


def _stage(folder: Path, copy: Path, files: Mapping[str, str]) -> None:
    """Copy the files of a model that loading reads, and link to its weights."""
    copy.mkdir()
    for name in SIZES:
        path = folder / name
        if name in (WEIGHTS, CALIBRATION):
            continue
        if not path.is_file():
            if name in files:
                raise _changed(path)
            continue
        content = read(path)
        if files and hashlib.sha256(content).hexdigest() != files.get(name):
            raise _changed(path)
        with (copy / name).open("wb") as file:
            file.write(content)
    if not (folder / WEIGHTS).is_file() or not (copy / CONFIG).is_file():
        raise ModelBrokenError(f"{folder}: {CONFIG} and {WEIGHTS} must be there.")
    (copy / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
    _cut_ties(copy)


def _cut_ties(copy: Path) -> None:
    """Remove from a copy's configurations what would lead loading to another place on this machine."""
    config = configs.load(copy / CONFIG)
    # gliner looks for adapters in the folder `model_name`, whatever that is here.
    _rewrite(copy / CONFIG, {"model_name": str(copy)})
    if (copy / TOKENIZER).is_file():
        paths = [name for name in configs.load(copy / TOKENIZER) if name.endswith("_file")]
        if paths:
            _rewrite(copy / TOKENIZER, {}, paths)
    if (copy / "config.json").is_file() and "model_type" not in configs.load(copy / "config.json"):
        (copy / "config.json").unlink()  # transformers would guess its type from the folder's name
    if not isinstance(config.get("encoder_config"), dict) or not (copy / TOKENIZER).is_file():
        raise ModelBrokenError(f"{copy}: encoder_config or {TOKENIZER} is missing.")


def _rewrite(path: Path, changes: Mapping[str, Any], without: list[str] | None = None) -> None:
    content = json.loads(path.read_bytes()) | changes
    for name in without or []:
        content.pop(name, None)
    path.write_text(json.dumps(content), encoding="utf-8")


def _changed(path: Path) -> ModelBrokenError:
    return ModelBrokenError(f"{path}: changed since it was checked. Start the worker again.")


@contextmanager
def _offline() -> Iterator[None]:
    """Keep transformers and the hub's client off the network, whatever a configuration asks for."""
    from huggingface_hub import constants

    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    environment, setting = {name: os.environ.get(name) for name in names}, constants.HF_HUB_OFFLINE
    os.environ.update(dict.fromkeys(names, "1"))
    constants.HF_HUB_OFFLINE = True  # read from the environment at import, which may have been long ago
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = setting
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn whatever the libraries raise on odd files into one sentence."""
    try:
        yield
    except ModelBrokenError:
        raise
    except Exception as error:
        raise ModelBrokenError(f"{folder}: gliner cannot load it: {_sentence(error)}") from error
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # a panic in tokenizers, which is no Exception
            raise
        raise ModelBrokenError(f"{folder}: its tokenizer is broken: {_sentence(error)}") from error


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"


def _refuse_oversized(folder: Path, copy: Path, shapes: Mapping[str, safetensors.Shape]) -> None:
    """Build the model without memory for its weights, and compare its size with that of the file.

    Raises:
        ModelBrokenError: the configuration asks for far more than the file holds.
    """
    content = json.loads((copy / CONFIG).read_bytes())
    content.pop("model_type", None)
    config = GLiNERConfig(**content)
    kind = UniEncoderTokenGLiNER if config.span_mode == "token_level" else UniEncoderSpanGLiNER
    with torch.device("meta"):
        core = kind.model_class(config, False)
    asked = sum(tensor.numel() for tensor in chain(core.parameters(), core.buffers()))
    stored = sum(prod(shape) for shape in shapes.values())
    if asked > 2 * stored + SPARE_WEIGHTS:
        raise ModelBrokenError(
            f"{folder / CONFIG}: describes a model of {asked:,} weights, but {WEIGHTS} holds {stored:,}."
        )
    # B615 wants a revision; this is a local folder, and the hub's client is offline.
    tokenizer = AutoTokenizer.from_pretrained(str(copy), local_files_only=True, trust_remote_code=False)  # nosec B615
    tokens, rows = len(tokenizer), max((shape[0] for shape in shapes.values() if len(shape) == 2), default=0)
    if tokens > rows + SPARE_TOKENS:
        raise ModelBrokenError(
            f"{folder}: the tokenizer has {tokens:,} tokens, but no table in {WEIGHTS} has as many."
        )


def _missing_weights(state: Mapping[str, torch.Tensor], names: Set[str]) -> list[str]:
    """Return weights that gliner left at random values without a word: in the model, but not in its file."""
    shared = {state[name].data_ptr() for name in names if name in state}
    return sorted(
        name
        for name, value in state.items()
        # BERT's pooler is built, but GLiNER never runs it; tied weights are stored once.
        if name not in names and ".pooler." not in name and value.data_ptr() not in shared
    )
