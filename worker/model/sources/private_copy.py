"""A private copy of a model's small files, from which it is loaded: exactly the bytes that were checked.

The weights, which are data whatever they contain, stay where they are and are hashed after loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.model.errors import ModelBrokenError
from worker.model.sources import configs
from worker.model.sources.checksums import hash_file
from worker.model.sources.folders import CALIBRATION, CONFIG, ENCODER, SIZES, TOKENIZER, WEIGHTS, read_small_file


@contextmanager
def copy_model(folder: Path, files: Mapping[str, str]) -> Iterator[Path]:
    """Copy the small files that are read by loading, and link to the weights.

    References to other files on this machine are removed from the copies of the tokenizers' configurations.

    Args:
        folder: a model's folder.
        files: SHA-256 of the files when they were checked, by name; empty where they were not.

    Raises:
        ModelBrokenError: a file is missing, or changed since it was checked.
    """
    with _temporary_folder() as copy:
        copy.mkdir()
        for name in SIZES:
            if name not in (WEIGHTS, CALIBRATION):
                _copy_file(folder, copy, name, files)
        for names in ((WEIGHTS,), (TOKENIZER,), (CONFIG, ENCODER)):
            if not any((folder / name).is_file() for name in names):
                raise ModelBrokenError(f"{folder}: {names[0]} is missing.")
        (copy / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
        configs.check_configs(copy)
        for tokenizer in copy.rglob(TOKENIZER):
            paths = [name for name in configs.load_json(tokenizer) if name.endswith("_file")]
            rewrite_json(tokenizer, {}, paths)
        yield copy


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        temporary = tempfile.TemporaryDirectory(prefix="gleaner-model-")
    except OSError as error:
        raise ModelBrokenError(
            f"no temporary folder for loading the model ({error}). Set TMPDIR to a writable folder."
        ) from error
    with temporary as name:
        yield Path(name, "model")


def _copy_file(folder: Path, copy: Path, name: str, files: Mapping[str, str]) -> None:
    path = folder / name
    if not path.is_file():
        if name in files:
            raise _changed_error(path)
        return
    content = read_small_file(path)
    if files and hashlib.sha256(content).hexdigest() != files.get(name):
        raise _changed_error(path)
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(content)


def rewrite_json(path: Path, changes: Mapping[str, Any], without: Sequence[str] = ()) -> None:
    """Change keys of a JSON object in a file, and remove others."""
    content = json.loads(path.read_bytes()) | changes
    for name in without:
        content.pop(name, None)
    path.write_text(json.dumps(content), encoding="utf-8")


def refuse_changed_weights(folder: Path, files: Mapping[str, str]) -> None:
    """Raise unless the weights are those that were checked.

    Raises:
        ModelBrokenError: they changed.
    """
    expected = files.get(WEIGHTS)
    if expected and hash_file(folder / WEIGHTS) != expected:
        raise _changed_error(folder / WEIGHTS)


def _changed_error(path: Path) -> ModelBrokenError:
    return ModelBrokenError(f"{path}: changed since it was checked. Restart the worker.")


@contextmanager
def force_offline() -> Iterator[None]:
    """Keep transformers and the hub's client off the network, whatever a configuration requests."""
    from huggingface_hub import constants

    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    environment, setting = {name: os.environ.get(name) for name in names}, constants.HF_HUB_OFFLINE
    os.environ.update(dict.fromkeys(names, "1"))
    constants.HF_HUB_OFFLINE = True  # the environment is read at import only, which may have happened already
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
def wrap_library_errors(folder: Path) -> Iterator[None]:
    """Convert any error of the libraries on malformed files into a ModelBrokenError of one sentence."""
    try:
        yield
    except ModelBrokenError:
        raise
    except Exception as error:
        raise ModelBrokenError(f"{folder}: the library cannot load it: {_summary(error)}") from error
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # a panic in tokenizers, which is no Exception
            raise
        raise ModelBrokenError(f"{folder}: its tokenizer is broken: {_summary(error)}") from error


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"
