"""A model's name becomes a local folder and a revision: hub id, local folder, or s3://, gs://, az:// address.

Remote files go into a cache, one folder per address and revision, filled under a lock and checked by SHA-256 before
every use; what is broken is fetched again. A model is data: only the files of `model_files.SIZES` and of
`weight_files` are fetched or read, and whatever could run code is refused. What a folder lacks is added in the
cache: weights in one file (`conversion`), a tokenizer and the encoder's shape (`backbone`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import orjson

from worker.model.errors import (
    ExtraMissingError,
    ModelBrokenError,
    ModelError,
    ModelNotFoundError,
    PickleRefusedError,
)
from worker.model.sources import (
    backbone,
    buckets,
    checksums,
    configs,
    conversion,
    folders,
    hub_client,
    safetensors,
    weight_files,
)
from worker.model.sources.folders import CALIBRATION, CONFIG, DOCUMENTS, SIZES, SMALL, WEIGHTS
from worker.model.sources.weight_files import WeightFiles
from worker.protocols import CalibrationCurve
from worker.text import splitters
from worker.text.explanations import checked
from worker.text.splitters import Splitter

__all__ = [
    "CALIBRATION",
    "CONFIG",
    "SIZES",
    "Convert",
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

Convert = Literal["auto", "true", "false"]
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
"""A commit, or the SHA-256 of a folder, or the beginning of one: what names content, unlike a branch or a tag."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete, checked model folder, which weights it holds, and what their scores are worth if it says so.

    Attributes:
        backbone: the commit that the tokenizer is from, where that is not the model's own.
        files: SHA-256 of the files that were checked, by name; what is loaded must be those.
    """

    folder: Path
    revision: str
    calibration: CalibrationCurve = ()
    backbone: str = ""
    files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class _Request:
    """A source and how it is to be taken."""

    source: str
    revision: str | None
    variant: str
    convert: Convert
    splitter: str

    def identify(self, names: Collection[str], fetch: Callable[[str], Path]) -> None:
        """Refuse by its configuration, before anything large is fetched, what cannot be run here.

        Raises:
            ModelError: it is another kind of model, or its splitter cannot be had.
        """
        configs.identify(self.source, names, fetch)
        configured = configs.load(fetch(CONFIG)).get("words_splitter_type")
        splitters.choose(self.source, configured, self.splitter)

    def choose_weights(self, names: Iterable[str], commit: str = "") -> WeightFiles:
        """Return the files to take the weights from.

        Args:
            names: all files there.
            commit: what a hub's revision stands for; a tag may look like a commit.

        Raises:
            ModelBrokenError: there are none, or not all.
            PickleRefusedError: they are pickled, and are not to be converted.
        """
        weights = weight_files.choose(self.source, names, self.variant)
        pinned = bool(
            self.revision
            and _COMMIT.fullmatch(self.revision)
            and (commit or self.revision).startswith(self.revision)
        )
        if weights.pickled and not (self.convert == "true" or (self.convert == "auto" and pinned)):
            pin = f" --revision {self.revision}" if self.revision else ""
            raise PickleRefusedError(
                f"{self.source}: its weights are pickled ({weights.names[0]}), and a pickle can run any code. To "
                "have them converted, in a process that may do nothing else, set GLEANER_MODEL_CONVERT=true or pin "
                "GLEANER_MODEL_REVISION to a commit. Or convert them once: "
                f"`gleaner model convert {self.source} FOLDER{pin}`, and set GLEANER_MODEL_SOURCE=FOLDER."
            )
        return weights


@dataclass(frozen=True, slots=True)
class _Origin:
    """A source's files on this machine, checked but perhaps not complete; `weights` are among them."""

    folder: Path
    revision: str
    files: Mapping[str, str]
    weights: WeightFiles
    place: str = ""


def resolve(
    source: str,
    revision: str | None,
    cache_dir: Path,
    backbone_revision: str | None = None,
    *,
    convert: Convert = "auto",
    variant: str = "",
    splitter: str = Splitter.MODEL,
) -> Resolved:
    """Bring a model to this machine.

    Args:
        source: a folder, a hub id (`owner/name`), or an s3://, gs:// or az:// address of a folder.
        revision: a hub commit, tag or branch; for others the SHA-256 (or its beginning) the files must have.
        cache_dir: where remote files are kept, and what is made of a model's files.
        backbone_revision: the hub commit of a model's backbone, where the tokenizer comes from that.
        convert: convert pickled weights where there are no others; `auto`: of a revision that names its content.
        variant: which weights to take where there are several, `fp16` of model.fp16.safetensors.
        splitter: what is to cut texts into words; the model's own splitter must be one that can be had here.

    Returns:
        The folder and its revision: a hub's commit, otherwise the first 12 hex of the files' SHA-256; and the
        variant where one was asked for.

    Raises:
        ModelError: see its subclasses.
    """
    request, hub = _Request(source, revision, variant, convert, splitter), hub_client.Hub(cache_dir)
    scheme = urlsplit(source).scheme
    if scheme in buckets.EXTRAS:
        origin = _from_store(request, scheme, cache_dir)
    elif Path(source).is_dir():
        origin = _from_folder(request, Path(source))
    elif _is_hub_id(source):
        origin = _from_hub(request, hub)
    else:
        raise ModelNotFoundError(f"{source}: no such folder, and not a hub id or an s3://, gs://, az:// address.")
    return _complete(request, origin, backbone_revision, cache_dir, hub)


def calibration(folder: Path) -> CalibrationCurve:
    """Return what the model's scores are worth, by its calibration.json (`gleaner evaluate` makes one); () without.

    Raises:
        ModelBrokenError: the file is no calibration.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return ()
    try:
        return checked(orjson.loads(folders.read(path))["knots"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelBrokenError(f"{path}: no calibration ({error}).") from error


def check(folder: Path, choose: Callable[[Iterable[str]], WeightFiles] | None = None) -> dict[str, Path]:
    """Make sure that a folder is a model, and nothing but data.

    Args:
        folder: the folder.
        choose: says which of its files hold the weights, and refuses where none may; by default they must be as
            they are loaded.

    Returns:
        All its files by their paths in it.

    Raises:
        ModelBrokenError: a file is missing, damaged, or could run code or exhaust the machine.
        PickleRefusedError: there are pickles.
    """
    files = folders.listing(folder)
    files.pop(checksums.MANIFEST, None)
    _check_files(folder, files, choose)
    return files


def _check_files(
    folder: Path, files: Mapping[str, Path], choose: Callable[[Iterable[str]], WeightFiles] | None = None
) -> WeightFiles:
    """Check a model's files, of which a tokenizer and an encoder may be missing where `choose` is given."""
    bare = choose is not None
    configs.identify(str(folder), files, lambda name: folder / name)
    pickles = weight_files.choose(str(folder), files) if bare else WeightFiles((WEIGHTS,))
    folders.refuse_code(folder, files.keys() - set(pickles.names if pickles.pickled else ()))
    weights = choose(files) if choose is not None else pickles
    if not set(weights.names) <= files.keys():
        raise ModelBrokenError(f"{folder}: no {weights.names[0]}.")
    folders.require(folder, files, bare)
    configs.check(folder, bare)
    if not weights.pickled:
        for name in weights.names:
            safetensors.read_shapes(folder / name)
    total = sum((folder / name).stat().st_size for name in weights.names)
    if total > weight_files.MAX_BYTES:
        raise ModelBrokenError(f"{folder}: its weights have {total:,} bytes, more than {weight_files.MAX_BYTES:,}.")
    return weights


def _from_folder(request: _Request, folder: Path) -> _Origin:
    weights = request.choose_weights
    files = check(folder, weights)
    request.identify(files, lambda name: folder / name)
    hashes = checksums.hash_all(files)
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return _Origin(folder, _folder_revision(request, hashes), hashes, weights(files), place)


def _from_store(request: _Request, scheme: str, cache_dir: Path) -> _Origin:
    """Fetch an object store's folder into the cache unless a sound copy is there."""

    def select(names: Collection[str], fetch_file: Callable[[str], Path]) -> Sequence[str]:
        request.identify(names, fetch_file)
        if not any(weight_files.is_weights(name) for name in names):
            folders.refuse_code(request.source, names)
        weights = request.choose_weights(names)
        return [*(name for name in SMALL if name in names), *weights.names]

    key = (request.revision or "") + (f"#{request.variant}" if request.variant else "")
    folder = buckets.fetch(
        request.source, scheme, key, cache_dir, select, lambda partial: check(partial, request.choose_weights)
    )
    return _from_folder(request, folder)


def _folder_revision(request: _Request, hashes: Mapping[str, str]) -> str:
    """Return the revision of files that carry no commit.

    Raises:
        ModelBrokenError: another one was asked for.
    """
    content = {name: value for name, value in hashes.items() if not name.endswith(DOCUMENTS)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    revision = request.revision
    if revision and not digest.startswith(revision[: len(digest)]):
        raise ModelBrokenError(
            f"{request.source}: revision {revision} was asked for, but the files are {digest[:12]}."
        )
    return digest[:12]


def _is_hub_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(slash and owner and name) and "/" not in name and not source.startswith((".", "~"))


def _from_hub(request: _Request, hub: hub_client.Hub) -> _Origin:
    """Fetch from the hub: first what is small, and the weights only where that is a model to be run."""
    source = request.source
    listed = hub.list_files(source, request.revision)
    folder = hub.fetch_checked(source, request.revision, SMALL, listed)
    there = listed.keys() if listed is not None else {path.name for path in folder.iterdir()}
    request.identify(there, lambda name: folder / name)
    weights = request.choose_weights(there, commit=folder.name)
    folder = hub.fetch_checked(source, folder.name, (*SMALL, *weights.names), listed)
    names = [name for name in (*SMALL, *weights.names) if (folder / name).is_file()]
    files = {name: folder / name for name in names}
    _check_files(folder, files, lambda _: weights)
    return _Origin(folder, folder.name, hub_client.hash_files(files, weights.names), weights)


def _complete(
    request: _Request, origin: _Origin, backbone_revision: str | None, cache_dir: Path, hub: hub_client.Hub
) -> Resolved:
    """Return the origin's folder, or one in the cache that has what it lacks."""
    revision = f"{origin.revision}-{request.variant}" if request.variant else origin.revision
    knots = calibration(origin.folder)
    part = backbone.find(request.source, origin.folder, backbone_revision, hub.fetch)
    if part is None and origin.weights.names == (WEIGHTS,):
        return Resolved(origin.folder, revision, knots, files=origin.files)
    [*names] = origin.weights.names
    if origin.weights.ready:
        path, digest = (origin.folder / names[0]).resolve(), origin.files[names[0]]
    else:
        path, digest = conversion.provide(origin.folder, origin.weights, origin.files, cache_dir)
    made = "" if names == [WEIGHTS] else digest[:12]
    commit = part.commit if part else ""
    name = "-".join(piece for piece in (origin.revision, commit, origin.place, made) if piece)
    whole = backbone.join(origin.folder, part, path, cache_dir / "complete" / name)
    files = {name: whole / name for name in SIZES if (whole / name).is_file()}
    _check_files(whole, files)
    small = checksums.hash_all({name: path for name, path in files.items() if name != WEIGHTS})
    return Resolved(whole, revision, knots, commit, small | {WEIGHTS: digest})
