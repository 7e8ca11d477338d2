"""An s3://, gs:// or az:// address of a folder -> a copy in the model cache, checked by SHA-256 at every use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worker.model.errors import ExtraMissingError, ModelBrokenError, ModelError, ModelNotFoundError
from worker.model.sources import checksums, folders
from worker.model.sources.cached_folders import ensure_folder

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az"}

Select = Callable[[Collection[str], Callable[[str], Path]], Sequence[str]]
"""The names in a folder, and a function that fetches a small file -> the names to fetch."""


def fetch_folder(url: str, key: str, cache_dir: Path, select: Select, check: Callable[[Path], object]) -> Path:
    """Return the cache's copy of an object store's folder, fetched unless the cache has an intact one.

    Args:
        url: the folder's address, with a scheme of `EXTRAS`.
        key: the revision and variant, which the cached copy depends on in addition to the address.
        cache_dir: the model cache.
        select: chooses the files to fetch.
        check: raises if the fetched files are not a model.

    Raises:
        ModelError: see its subclasses.
    """
    name = hashlib.sha256(f"{url.rstrip('/')}@{key}".encode()).hexdigest()[:16]
    folder = cache_dir / "objects" / name

    def fetch(partial: Path) -> None:
        _fetch_files(url, partial, select)
        check(partial)
        checksums.write_manifest(partial)

    ensure_folder(folder, fetch)
    return folder


def _fetch_files(source: str, partial: Path, select: Select) -> None:
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(source.rstrip("/"), skip_instance_cache=True)
    except ImportError as error:
        raise ExtraMissingError(
            f"{source}: needs `pip install 'gleaner-ner[{EXTRAS[urlsplit(source).scheme]}]'`."
        ) from error
    try:
        entries = filesystem.ls(path, detail=True)
        names = {str(entry["name"]).rstrip("/").rpartition("/")[2] for entry in entries}
        for folder in sorted(names & folders.SUBFOLDERS):
            entries = [*entries, *filesystem.ls(f"{path}/{folder}", detail=True)]
        sizes = _list_sizes(source, path, entries)

        def fetch_file(name: str) -> Path:
            target = partial / name
            if not target.is_file():
                folders.refuse_large(source, name, sizes[name])
                target.parent.mkdir(exist_ok=True)
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
    """Return the sizes in bytes of the files in an object store's folder, by path; folders are ignored."""
    names = {str(entry["name"]).removeprefix(path).removeprefix("/"): entry for entry in entries}
    names.pop("", None)  # the folder itself, which some tools write as an object
    if not names:
        raise ModelNotFoundError(f"{source}: there are no files. Check the address.")
    if len(names) > folders.MAX_FILES:
        raise ModelBrokenError(f"{source}: more than {folders.MAX_FILES:,} objects; is this a model's folder?")
    folders.refuse_odd_names(source, (name.removesuffix("/") for name in names))
    return {name: int(entry.get("size") or 0) for name, entry in names.items() if entry.get("type") != "directory"}
