"""A hub id and a revision -> a snapshot of a model's files, in the hub client's cache.

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured. If the hub cannot be reached, only the cache is used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.model.errors import ModelNotFoundError
from worker.model.sources import checksums, folders

log = logging.getLogger(__name__)

SHA256_LENGTH = 64


def list_files(name: str, revision: str | None) -> dict[str, int] | None:
    """Return the size in bytes of each file of a repository; None where the hub cannot be reached.

    Raises:
        ModelNotFoundError: there is no such repository or revision, or no permission to read it.
    """
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if is_offline_mode():
        return None
    try:
        entries = list(HfApi().list_repo_tree(name, revision=revision, recursive=True))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise _not_found(name, revision, error) from error
    except Exception as error:  # noqa: BLE001  # several layers of clients; the cache may have an intact copy
        log.warning("model.hub_unreachable", extra={"repository": name, "reason": type(error).__name__})
        return None
    return {entry.path: int(entry.size) for entry in entries if hasattr(entry, "size")}


def fetch_files(
    cache_dir: Path, name: str, revision: str | None, names: Sequence[str], sizes: Mapping[str, int] | None = None
) -> Path:
    """Return the snapshot with those of these files that the repository has; the folder is named by its commit.

    Args:
        cache_dir: the model cache; the hub client's cache is a folder in it.
        name: the repository.
        revision: its commit, tag or branch.
        names: the files.
        sizes: their sizes in bytes, from `list_files`.

    Raises:
        ModelNotFoundError: neither the hub nor the cache has them.
        ModelBrokenError: a file is too large.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    cache = cache_dir / "hub"
    for file in names:
        folders.refuse_large(name, file, (sizes or {}).get(file))
    try:
        return Path(snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=list(names)))
    except (IncompleteSnapshotError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelNotFoundError(
            f"{name}: the hub cannot be reached, and {cache} does not have all files. Allow access to "
            "the hub (HF_ENDPOINT, HF_HUB_OFFLINE), or fill the cache on a machine with access."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _not_found(name, revision, error) from error


def _not_found(name: str, revision: str | None, error: Exception) -> ModelNotFoundError:
    where = f" at revision {revision}" if revision else ""
    return ModelNotFoundError(
        f"{name}: not on the hub{where} ({type(error).__name__}). Check the name, and that HF_TOKEN permits access."
    )


def hash_snapshot(files: Mapping[str, Path], large: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of a snapshot's files by name; large ones are named by it in the hub's cache."""
    blobs = {name: files[name].resolve().name for name in large}
    named = {name: blob for name, blob in blobs.items() if len(blob) == SHA256_LENGTH}
    return checksums.hash_files({name: path for name, path in files.items() if name not in named}) | named
