"""A model's name becomes a local folder and a revision: hub id, local folder, or s3://, gs://, az:// address.

Remote files go into a cache, one folder per address and revision, filled under a lock and checked by SHA-256 before
every use; what is broken is fetched again. Weights must be safetensors: a pickle can run code, so it is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from worker import backbone, checksums
from worker.contract import Knots
from worker.explaining import checked

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az"}
CONFIG = "gliner_config.json"
CALIBRATION = "calibration.json"
FILES = (".json", ".safetensors", ".txt", ".model")
"""What a model consists of: the SHA-256 over these is its revision."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
HUB_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")


class ModelError(Exception):
    """A model cannot be had; the message says what to do.

    ModelError
     +- ModelNotFoundError    no such folder, address, hub id or revision
     +- ModelBrokenError      files missing, damaged, or not a model we can run
     +- PickleRefusedError    only pickled weights
     +- ExtraMissingError     the storage's Python package is not installed
    """


class ModelNotFoundError(ModelError):
    """There is nothing at the source."""


class ModelBrokenError(ModelError):
    """The files are incomplete, damaged, or not a model that can be run."""


class PickleRefusedError(ModelError):
    """The weights are pickled, and a pickle can run any code."""


class ExtraMissingError(ModelError):
    """The source needs a package that is not installed."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete, checked model folder, which weights it holds, and what their scores are worth if it says so.

    Attributes:
        backbone: the commit that the tokenizer is from, where that is not the model's own.
    """

    folder: Path
    revision: str
    calibration: Knots = ()
    backbone: str = ""


def resolve(source: str, revision: str | None, cache_dir: Path, backbone_revision: str | None = None) -> Resolved:
    """Bring a model to this machine.

    Args:
        source: a folder, a hub id (`owner/name`), or an s3://, gs:// or az:// address of a folder.
        revision: a hub commit, tag or branch; for others the SHA-256 (or its beginning) the weights must have.
        cache_dir: where remote files are kept.
        backbone_revision: the hub commit of a model's backbone, where the tokenizer comes from that.

    Returns:
        The folder and its revision: a hub's commit, otherwise the first 12 hex of the files' SHA-256.

    Raises:
        ModelError: see its subclasses.
    """
    scheme = urlsplit(source).scheme
    if scheme in EXTRAS:
        folder = _remote(source, scheme, revision, cache_dir)
    elif Path(source).is_dir():
        folder = Path(source)
    elif _is_hub_id(source):
        return _hub(source, revision, cache_dir, backbone_revision)
    else:
        raise ModelNotFoundError(f"{source}: no such folder, and not a hub id or an s3://, gs://, az:// address.")
    check(folder)
    found = _digest(checksums.hashes(folder, FILES))
    if revision and not found.startswith(revision[: len(found)]):
        raise ModelBrokenError(f"{source}: revision {revision} was asked for, but the files are {found[:12]}.")
    return Resolved(folder, found[:12], calibration(folder))


def calibration(folder: Path) -> Knots:
    """What the model's scores are worth, by its calibration.json (`gleaner evaluate` makes one); () without one.

    Raises:
        ModelBrokenError: the file is no calibration.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return ()
    try:
        return checked(json.loads(path.read_text(encoding="utf-8"))["knots"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelBrokenError(f"{path}: no calibration ({error}).") from error


def check(folder: Path) -> None:
    """Make sure that a folder is a complete model without pickles.

    Raises:
        ModelBrokenError: a file is missing or damaged.
        PickleRefusedError: there are weights, but only pickled ones.
    """
    if not (folder / CONFIG).is_file():
        raise ModelBrokenError(f"{folder}: no {CONFIG}; is this a GLiNER model?")
    try:
        json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelBrokenError(f"{folder / CONFIG}: not JSON.") from error
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise PickleRefusedError(
                f"{folder}: only pickled weights ({', '.join(pickles)}), and a pickle can run any code. "
                "Convert them: GLiNER.from_pretrained(...).save_pretrained(..., safe_serialization=True)."
            )
        raise ModelBrokenError(f"{folder}: no model.safetensors.")
    for path in weights:
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    """Read the header and compare the length it promises; the tensors themselves are read when loading."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            if not 2 <= header_size <= size - 8:
                raise ValueError("header size")
            header: dict[str, Any] = json.loads(file.read(header_size))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if 8 + header_size + max(ends, default=0) != size:
            raise ValueError("length")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelBrokenError(f"{path}: damaged or cut short ({size} bytes); fetch it again.") from error


def _digest(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _is_hub_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(slash and owner and name) and "/" not in name and not source.startswith((".", "~"))


def _hub(source: str, revision: str | None, cache_dir: Path, backbone_revision: str | None) -> Resolved:
    """Fetch from the hub (HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE honoured); its cache goes by content."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(name: str, commit: str | None, patterns: Sequence[str]) -> Path:
        try:
            found = snapshot_download(
                name, revision=commit, cache_dir=cache_dir / "hub", allow_patterns=list(patterns)
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            where = f" at revision {commit}" if commit else ""
            raise ModelNotFoundError(f"{name}: not on the hub{where} ({type(error).__name__}).") from error
        return Path(found)

    folder = fetch(source, revision, HUB_PATTERNS)
    if not any(folder.glob("*.safetensors")):
        raise PickleRefusedError(f"{source}: the hub has no safetensors weights for it; pickles are refused.")
    check(folder)
    whole = backbone.complete(folder, backbone_revision, cache_dir, fetch)
    commit = folder.name
    return Resolved(whole, commit, calibration(folder), whole.name.removeprefix(commit).removeprefix("-"))


def _remote(source: str, scheme: str, revision: str | None, cache_dir: Path) -> Path:
    """Fetch an object store's folder into the cache unless a sound copy is there."""
    name = hashlib.sha256(f"{source.rstrip('/')}@{revision or ''}".encode()).hexdigest()[:16]
    folder = cache_dir / "objects" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not checksums.sound(folder, FILES):
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(source, scheme, folder)
    return folder


def _fetch(source: str, scheme: str, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(source.rstrip("/"), skip_instance_cache=True)
    except ImportError as error:
        raise ExtraMissingError(f"{source}: needs `pip install 'gleaner-ner[{EXTRAS[scheme]}]'`.") from error
    try:
        names = [name for name in filesystem.find(path) if not name.endswith("/")]
        if not names:
            raise ModelNotFoundError(f"{source}: nothing there.")
        for name in names:
            target = partial / os.path.relpath(name, path)
            if target.suffix in PICKLES:
                continue  # never brought onto the machine; `check` says so if nothing else is there
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(target))
    except ModelError:
        raise
    except Exception as error:  # every storage has errors of its own kind
        raise ModelNotFoundError(f"{source}: cannot be read ({type(error).__name__}: {error}).") from error
    if not any(partial.glob("*.safetensors")) and any(Path(name).suffix in PICKLES for name in names):
        raise PickleRefusedError(f"{source}: only pickled weights, and a pickle can run any code.")
    check(partial)
    checksums.seal(partial, FILES)
    partial.replace(folder)
