"""An s3://, gs:// or az:// address of a folder -> a copy in the model cache, checked by SHA-256 at every use."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from worker.model.errors import ExtraMissingError, ModelBrokenError, ModelError, ModelNotFoundError
from worker.model.sources import checksums, folders

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az"}

Select = Callable[[Collection[str], Callable[[str], Path]], Sequence[str]]
"""The names in a folder, and a function that fetches a small file -> the names to fetch."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a folder in an object store.

    Attributes:
        url: the whole address.
        scheme: its scheme, a key of `EXTRAS`.
        key: the revision and variant, which the cached copy depends on in addition to the address.
    """

    url: str
    scheme: str
    key: str


def fetch_folder(address: Address, cache_dir: Path, select: Select, check: Callable[[Path], object]) -> Path:
    """Return the cache's copy of an object store's folder, fetched unless the cache has an intact one.

    Args:
        address: the folder.
        cache_dir: the model cache.
        select: chooses the files to fetch.
        check: raises if the fetched files are not a model.

    Raises:
        ModelError: see its subclasses.
    """
    name = hashlib.sha256(f"{address.url.rstrip('/')}@{address.key}".encode()).hexdigest()[:16]
    folder = cache_dir / "objects" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not checksums.is_intact(folder):
            shutil.rmtree(folder, ignore_errors=True)
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                _fetch_files(address.url, address.scheme, partial, select)
                check(partial)
                checksums.write_manifest(partial)
                partial.replace(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def _fetch_files(source: str, scheme: str, partial: Path, select: Select) -> None:
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(source.rstrip("/"), skip_instance_cache=True)
    except ImportError as error:
        raise ExtraMissingError(f"{source}: needs `pip install 'gleaner-ner[{EXTRAS[scheme]}]'`.") from error
    try:
        sizes = _list_sizes(source, path, filesystem.ls(path, detail=True))
        partial.mkdir(parents=True)

        def fetch_file(name: str) -> Path:
            target = partial / name
            if not target.is_file():
                folders.refuse_large(source, name, sizes[name])
                filesystem.get_file(f"{path}/{name}", str(target))
                if target.stat().st_size != sizes[name]:
                    raise ModelBrokenError(f"{source}: {name} changed while it was fetched; restart the worker.")
            return target

        for name in select(sizes.keys(), fetch_file):
            fetch_file(name)
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{source}: there are no files. Check the address.") from error
    except Exception as error:  # every object store has its own errors
        raise ModelNotFoundError(f"{source}: cannot be read ({type(error).__name__}: {error}).") from error


def _list_sizes(source: str, path: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sizes in bytes of the files in an object store's folder, by name; subfolders are ignored."""
    names = {str(entry["name"]).removeprefix(path).removeprefix("/"): entry for entry in entries}
    names.pop("", None)  # the folder itself, which some tools write as an object
    if not names:
        raise ModelNotFoundError(f"{source}: there are no files. Check the address.")
    if len(names) > folders.MAX_FILES:
        raise ModelBrokenError(f"{source}: more than {folders.MAX_FILES:,} objects; is this a model's folder?")
    folders.refuse_odd_names(source, (name.removesuffix("/") for name in names))
    return {name: int(entry.get("size") or 0) for name, entry in names.items() if entry.get("type") != "directory"}
