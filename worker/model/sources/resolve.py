"""A model's source (hub id, local folder, or s3://, gs://, az:// address) -> a checked local folder and a revision.

Remote files go into a cache, one folder per address and revision, filled under a lock and checked by SHA-256 before
every use; a damaged folder is fetched again. A model is data: only the files of `folders.SIZES` and of
`weight_files` are fetched or read, and anything that could run code is refused. Missing parts are added in the
cache: weights in one file (`conversion`), a tokenizer and the encoder's configuration (`backbone`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import orjson

from worker.model import splitters
from worker.model.errors import ExtraMissingError, ModelBrokenError, ModelNotFoundError, PickleRefusedError
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
from worker.model.sources.configs import Library
from worker.model.sources.folders import CALIBRATION, CONFIG, DOCUMENTS, SIZES, SMALL, WEIGHTS
from worker.model.sources.weight_files import WeightFiles
from worker.model.splitters import Splitter
from worker.protocols import CalibrationCurve
from worker.text.explanations import check_calibration

Convert = Literal["auto", "true", "false"]
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
"""A commit or a folder's SHA-256, or the beginning of one: it identifies content, unlike a branch or a tag."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete, checked model folder, the revision of its weights, and their calibration curve if it has one.

    Attributes:
        backbone: the backbone's commit, where the tokenizer is from the backbone.
        library: the library whose layers run it.
        files: SHA-256 of the checked files by name; loading refuses any others.
    """

    folder: Path
    revision: str
    calibration: CalibrationCurve = ()
    backbone: str = ""
    library: Library = Library.GLINER
    files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Settings for a model's files.

    Attributes:
        backbone_revision: the hub commit of the model's backbone, if the tokenizer comes from that.
        convert: convert pickled weights if there are no others; `auto`: if the revision identifies content.
        variant: the weights to take if there are several sets: `fp16` for model.fp16.safetensors.
        splitter: cuts texts into words; the model's own splitter must be available here.
    """

    backbone_revision: str | None = None
    convert: Convert = "auto"
    variant: str = ""
    splitter: str = Splitter.MODEL


@dataclass(frozen=True, slots=True)
class _Request:
    """A source with its settings."""

    source: str
    revision: str | None
    options: SourceOptions

    def refuse_unsupported(self, names: Collection[str], fetch: Callable[[str], Path]) -> None:
        """Refuse a model that cannot be run here, by its configuration, before anything large is fetched."""
        configured = None
        if configs.check_architecture(self.source, names, fetch) is Library.GLINER:
            configured = configs.load_json(fetch(CONFIG)).get("words_splitter_type")
        elif importlib.util.find_spec("gliner2") is None:
            raise ExtraMissingError(
                f"{self.source}: this is a GLiNER2 model, which needs `pip install 'gleaner-ner[gliner2]'`."
            )
        splitters.choose_splitter(self.source, configured, self.options.splitter)

    def choose_weights(self, names: Iterable[str], commit: str = "") -> WeightFiles:
        """Return the files to take the weights from.

        Args:
            names: all files of the source.
            commit: the commit of a hub's revision; a tag may look like a commit.

        Raises:
            ModelBrokenError: weights are missing.
            PickleRefusedError: they are pickled, and the settings do not allow conversion.
        """
        weights = weight_files.choose_weights(self.source, names, self.options.variant)
        convert = self.options.convert
        pinned = bool(
            self.revision
            and _COMMIT.fullmatch(self.revision)
            and (commit or self.revision).startswith(self.revision)
        )
        if weights.pickled and not (convert == "true" or (convert == "auto" and pinned)):
            pin = f" --revision {self.revision}" if self.revision else ""
            raise PickleRefusedError(
                f"{self.source}: its weights are pickled ({weights.names[0]}), and a pickle can run any code. To "
                "convert them in a sandboxed process, set GLEANER_MODEL_CONVERT=true or pin "
                "GLEANER_MODEL_REVISION to a commit. Or convert them once: "
                f"`gleaner model convert {self.source} FOLDER{pin}`, and set GLEANER_MODEL_SOURCE=FOLDER."
            )
        return weights


@dataclass(frozen=True, slots=True)
class _Origin:
    """A source's files on this machine, checked but perhaps incomplete; `location` distinguishes local folders."""

    folder: Path
    revision: str
    files: Mapping[str, str]
    weights: WeightFiles
    location: str = ""


def resolve_model(
    source: str,
    revision: str | None,
    cache_dir: Path,
    options: SourceOptions | None = None,
) -> Resolved:
    """Return a checked folder on this machine with a model's files, fetched and completed as needed.

    Args:
        source: a folder, a hub id (`owner/name`), or an s3://, gs:// or az:// address of a folder.
        revision: a hub commit, tag or branch; for others the SHA-256 (or its beginning) that the files must have.
        cache_dir: the model cache, for remote, converted and completed files.
        options: by default those of `SourceOptions`.

    Returns:
        The folder and its revision: a hub's commit, otherwise the first 12 hex digits of the files' SHA-256; with
        the variant if one is requested.

    Raises:
        ModelError: see its subclasses.
    """
    request = _Request(source, revision, options or SourceOptions())
    if urlsplit(source).scheme in buckets.EXTRAS:
        origin = _fetch_bucket(request, cache_dir)
    elif Path(source).is_dir():
        origin = _read_folder(request, Path(source))
    elif _is_hub_id(source):
        origin = _fetch_hub(request, cache_dir)
    else:
        raise ModelNotFoundError(
            f"{source}: not a folder here, nor a hub id (owner/name) or an s3://, gs://, az:// address."
        )
    return _complete(request, origin, cache_dir)


def read_calibration(folder: Path) -> CalibrationCurve:
    """Return the calibration curve in a folder's calibration.json, written by `gleaner evaluate`; () without one.

    Raises:
        ModelBrokenError: the file is not a calibration.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return ()
    try:
        return check_calibration(orjson.loads(folders.read_small_file(path))["knots"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelBrokenError(
            f"{path}: not a calibration ({error}). Write it with `gleaner evaluate`, or remove it."
        ) from error


def check_folder(folder: Path, choose: Callable[[Iterable[str]], WeightFiles] | None = None) -> dict[str, Path]:
    """Check that a folder is a model, and nothing but data.

    `choose` returns the files that hold the weights, or raises; by default they must be one safetensors file.

    Returns:
        All its files by their paths in it.

    Raises:
        ModelBrokenError: a file is missing, damaged, or could run code or exhaust the machine.
        PickleRefusedError: there are pickles.
    """
    files = folders.list_files(folder)
    files.pop(checksums.MANIFEST, None)
    _check_files(folder, files, choose)
    return files


def _check_files(
    folder: Path, files: Mapping[str, Path], choose: Callable[[Iterable[str]], WeightFiles] | None = None
) -> WeightFiles:
    """Check a model's files; with `choose`, a tokenizer and an encoder configuration may be missing."""
    bare = choose is not None
    library = configs.check_architecture(str(folder), files, lambda name: folder / name)
    pickles = weight_files.choose_weights(str(folder), files) if bare else WeightFiles((WEIGHTS,))
    folders.refuse_code(folder, files.keys() - set(pickles.names if pickles.pickled else ()))
    weights = choose(files) if choose is not None else pickles
    if library is Library.GLINER2 and weights.names != (WEIGHTS,):
        raise ModelBrokenError(f"{folder}: the weights of a GLiNER2 model must be one file, {WEIGHTS}.")
    if not set(weights.names) <= files.keys():
        raise ModelBrokenError(f"{folder}: no {weights.names[0]}.")
    folders.require_files(folder, files, bare and library is Library.GLINER)
    configs.check_configs(folder, bare)
    if not weights.pickled:
        for name in weights.names:
            safetensors.read_shapes(folder / name)
    total = sum((folder / name).stat().st_size for name in weights.names)
    if total > weight_files.MAX_BYTES:
        raise ModelBrokenError(f"{folder}: its weights have {total:,} bytes, more than {weight_files.MAX_BYTES:,}.")
    return weights


def _read_folder(request: _Request, folder: Path) -> _Origin:
    weights = request.choose_weights
    files = check_folder(folder, weights)
    request.refuse_unsupported(files, lambda name: folder / name)
    hashes = checksums.hash_files(files)
    location = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return _Origin(folder, _folder_revision(request, hashes), hashes, weights(files), location)


def _fetch_bucket(request: _Request, cache_dir: Path) -> _Origin:
    """Fetch an object store's folder into the cache unless it has an intact copy."""

    def select(names: Collection[str], fetch_file: Callable[[str], Path]) -> Sequence[str]:
        request.refuse_unsupported(names, fetch_file)
        if not any(weight_files.is_weights(name) for name in names):
            folders.refuse_code(request.source, names)
        weights = request.choose_weights(names)
        return [*(name for name in SMALL if name in names), *weights.names]

    key = (request.revision or "") + (f"#{variant}" if (variant := request.options.variant) else "")
    folder = buckets.fetch_folder(
        request.source, key, cache_dir, select, lambda copy: check_folder(copy, request.choose_weights)
    )
    return _read_folder(request, folder)


def _folder_revision(request: _Request, hashes: Mapping[str, str]) -> str:
    """Return the revision of files without a commit."""
    content = {name: value for name, value in hashes.items() if not name.endswith(DOCUMENTS)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    revision = request.revision
    if revision and not digest.startswith(revision[: len(digest)]):
        raise ModelBrokenError(
            f"{request.source}: the files have revision {digest[:12]}, but {revision} is requested. Fetch that, "
            "or change GLEANER_MODEL_REVISION."
        )
    return digest[:12]


def _is_hub_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(slash and owner and name) and "/" not in name and not source.startswith((".", "~"))


def _fetch_hub(request: _Request, cache_dir: Path) -> _Origin:
    """Fetch from the hub: first the small files, and the weights only if those are of a supported model."""
    source = request.source
    listed = hub_client.list_files(source, request.revision)
    folder = hub_client.fetch_files(cache_dir, source, request.revision, SMALL, listed)
    available = listed.keys() if listed is not None else folders.list_files(folder).keys()
    request.refuse_unsupported(available, lambda name: folder / name)
    weights = request.choose_weights(available, commit=folder.name)
    folder = hub_client.fetch_files(cache_dir, source, folder.name, (*SMALL, *weights.names), listed)
    names = [name for name in (*SMALL, *weights.names) if (folder / name).is_file()]
    files = {name: folder / name for name in names}
    _check_files(folder, files, lambda _: weights)
    return _Origin(folder, folder.name, hub_client.hash_snapshot(files, weights.names), weights)


def _complete(request: _Request, origin: _Origin, cache_dir: Path) -> Resolved:
    """Return the origin's folder, or one in the cache with its missing parts added."""
    options = request.options
    revision = f"{origin.revision}-{options.variant}" if options.variant else origin.revision
    curve = read_calibration(origin.folder)
    if not (origin.folder / CONFIG).is_file():
        return Resolved(origin.folder, revision, curve, library=Library.GLINER2, files=origin.files)
    tokenizer_source = backbone.fetch_backbone(
        request.source, origin.folder, options.backbone_revision, partial(hub_client.fetch_files, cache_dir)
    )
    if tokenizer_source is None and origin.weights.names == (WEIGHTS,):
        return Resolved(origin.folder, revision, curve, files=origin.files)
    [*names] = origin.weights.names
    if origin.weights.ready:
        path, digest = (origin.folder / names[0]).resolve(), origin.files[names[0]]
    else:
        path, digest = conversion.ensure_safetensors(origin.folder, origin.weights, origin.files, cache_dir)
    converted = "" if names == [WEIGHTS] else digest[:12]
    commit = tokenizer_source.name if tokenizer_source else ""
    name = "-".join(part for part in (origin.revision, commit, origin.location, converted) if part)
    whole = cache_dir / "complete" / name
    backbone.assemble_folder(origin.folder, tokenizer_source, path, whole)
    files = {name: whole / name for name in SIZES if (whole / name).is_file()}
    _check_files(whole, files)
    small = checksums.hash_files({name: path for name, path in files.items() if name != WEIGHTS})
    return Resolved(whole, revision, curve, commit, files=small | {WEIGHTS: digest})
