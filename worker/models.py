"""A model's name becomes a local folder and a revision: hub id, local folder, or s3://, gs://, az:// address.

Remote files go into a cache, one folder per address and revision, filled under a lock and checked by SHA-256 before
every use; what is broken is fetched again. A model is data: only the files of `model_files.SIZES` are fetched or
read, weights from safetensors alone, and whatever could run code is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from filelock import FileLock

from worker import backbone, checksums, model_configs, model_files, model_weights
from worker.contract import Knots
from worker.explaining import checked
from worker.model_errors import (
    ExtraMissingError,
    ModelBrokenError,
    ModelError,
    ModelNotFoundError,
    PickleRefusedError,
)
from worker.model_files import CALIBRATION, CONFIG, DOCUMENTS, SIZES, WEIGHTS

__all__ = [
    "CALIBRATION",
    "CONFIG",
    "ExtraMissingError",
    "ModelBrokenError",
    "ModelError",
    "ModelNotFoundError",
    "PickleRefusedError",
    "Resolved",
    "calibration",
    "check",
    "resolve",
]

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az"}
SHA256_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete, checked model folder, which weights it holds, and what their scores are worth if it says so.

    Attributes:
        backbone: the commit that the tokenizer is from, where that is not the model's own.
        files: SHA-256 of the files that were checked, by name; what is loaded must be those.
    """

    folder: Path
    revision: str
    calibration: Knots = ()
    backbone: str = ""
    files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


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
    hashes = checksums.hash_all(check(folder))
    digest = _digest({name: value for name, value in hashes.items() if not name.endswith(DOCUMENTS)})
    if revision and not digest.startswith(revision[: len(digest)]):
        raise ModelBrokenError(f"{source}: revision {revision} was asked for, but the files are {digest[:12]}.")
    return Resolved(folder, digest[:12], calibration(folder), files=hashes)


def calibration(folder: Path) -> Knots:
    """Return what the model's scores are worth, by its calibration.json (`gleaner evaluate` makes one); () without.

    Raises:
        ModelBrokenError: the file is no calibration.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return ()
    try:
        return checked(orjson.loads(model_files.read(path))["knots"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelBrokenError(f"{path}: no calibration ({error}).") from error


def check(folder: Path) -> dict[str, Path]:
    """Make sure that a folder is a complete model, and nothing but data.

    Returns:
        All its files by their paths in it.

    Raises:
        ModelBrokenError: a file is missing, damaged, or could run code or exhaust the machine.
        PickleRefusedError: there are pickles.
    """
    files = model_files.listing(folder)
    files.pop(checksums.MANIFEST, None)
    model_files.refuse_code(folder, files)
    _check_content(folder, files)
    return files


def _check_content(folder: Path, names: Mapping[str, Path], bare: bool = False) -> None:
    model_files.require(folder, names, bare)
    model_configs.check(folder, bare)
    model_weights.read_shapes(folder / WEIGHTS)


def _digest(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _is_hub_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(slash and owner and name) and "/" not in name and not source.startswith((".", "~"))


def _hub(source: str, revision: str | None, cache_dir: Path, backbone_revision: str | None) -> Resolved:
    """Fetch from the hub (HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE honoured); its cache goes by content."""
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(name: str, commit: str | None, names: Sequence[str]) -> Path:
        cache, patterns = cache_dir / "hub", list(names)
        try:
            if not is_offline_mode():
                plan = snapshot_download(
                    name, revision=commit, cache_dir=cache, allow_patterns=patterns, dry_run=True
                )
                for file in plan:
                    _refuse_large(name, file.filename, file.file_size)
            folder = snapshot_download(name, revision=commit, cache_dir=cache, allow_patterns=patterns)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            where = f" at revision {commit}" if commit else ""
            raise ModelNotFoundError(f"{name}: not on the hub{where} ({type(error).__name__}).") from error
        return Path(folder)

    folder = fetch(source, revision, tuple(SIZES))
    names = {name: folder / name for name in SIZES if (folder / name).is_file()}
    if WEIGHTS not in names:
        raise PickleRefusedError(f"{source}: the hub has no {WEIGHTS} for it; pickles are refused.")
    _check_content(folder, names, bare=True)
    whole = backbone.complete(folder, backbone_revision, cache_dir, fetch)
    names = {name: whole / name for name in SIZES if (whole / name).is_file()}
    _check_content(whole, names)
    commit = folder.name
    return Resolved(
        whole, commit, calibration(folder), whole.name.removeprefix(commit).removeprefix("-"), _hub_hashes(names)
    )


def _hub_hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the files' SHA-256. That of the weights is their name in the hub's cache: loading compares it."""
    hashes = checksums.hash_all({name: path for name, path in files.items() if name != WEIGHTS})
    blob = files[WEIGHTS].resolve().name
    return hashes | {WEIGHTS: blob} if len(blob) == SHA256_LENGTH else hashes


def _refuse_large(source: str, name: str, size: int | None) -> None:
    if (size or 0) > SIZES.get(name, 0):
        raise ModelBrokenError(
            f"{source}: {name} has {size:,} bytes, more than the {SIZES.get(name, 0):,} it may have."
        )


def _remote(source: str, scheme: str, revision: str | None, cache_dir: Path) -> Path:
    """Fetch an object store's folder into the cache unless a sound copy is there."""
    name = hashlib.sha256(f"{source.rstrip('/')}@{revision or ''}".encode()).hexdigest()[:16]
    folder = cache_dir / "objects" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not checksums.sound(folder):
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
        sizes = _remote_sizes(source, path, filesystem.ls(path, detail=True))
        partial.mkdir(parents=True)
        for name in sizes.keys() & SIZES.keys():
            filesystem.get_file(f"{path}/{name}", str(partial / name))
            if (partial / name).stat().st_size != sizes[name]:
                raise ModelBrokenError(f"{source}: {name} changed while it was fetched; start again.")
    except ModelError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{source}: nothing there.") from error
    except Exception as error:  # every storage has errors of its own kind
        raise ModelNotFoundError(f"{source}: cannot be read ({type(error).__name__}: {error}).") from error
    check(partial)
    checksums.seal(partial)
    partial.replace(folder)


def _remote_sizes(source: str, path: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sizes in bytes of the files in an object store's folder, by name; folders in it are no part of it.

    Raises:
        ModelNotFoundError: there is nothing.
        ModelBrokenError: a name could lead elsewhere, or a file of the model is too large.
        PickleRefusedError: there are no weights but pickled ones.
    """
    names = {str(entry["name"]).removeprefix(path).removeprefix("/"): entry for entry in entries}
    names.pop("", None)  # the folder itself, as some tools write it
    if not names:
        raise ModelNotFoundError(f"{source}: nothing there.")
    if len(names) > model_files.MAX_FILES:
        raise ModelBrokenError(f"{source}: more than {model_files.MAX_FILES:,} objects; is this a model's folder?")
    model_files.refuse_odd_names(source, (name.removesuffix("/") for name in names))
    sizes = {name: int(entry.get("size") or 0) for name, entry in names.items() if entry.get("type") != "directory"}
    for name in sizes.keys() & SIZES.keys():
        _refuse_large(source, name, sizes[name])
    if WEIGHTS not in sizes:
        model_files.refuse_code(source, sizes)
    return sizes
