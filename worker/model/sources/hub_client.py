"""A hub id and a revision -> a snapshot of the files that a model consists of, in the hub's own cache.

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured. Where the hub cannot be reached, the cache is all there is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.model.errors import ModelNotFoundError
from worker.model.sources import checksums, folders

log = logging.getLogger(__name__)

SHA256_LENGTH = 64


class Hub:
    """The hub's client.

    Args:
        cache_dir: the model cache; the hub's is a folder in it.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache = cache_dir / "hub"

    def list_files(self, name: str, revision: str | None) -> dict[str, int] | None:
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
            raise _absent(name, revision, error) from error
        except Exception as error:  # noqa: BLE001  # several layers of clients; a sound copy may be in the cache
            log.warning("model.hub_unreachable", extra={"repository": name, "reason": type(error).__name__})
            return None
        return {entry.path: int(entry.size) for entry in entries if hasattr(entry, "size")}

    def fetch(self, name: str, revision: str | None, names: Sequence[str]) -> Path:
        """Return the snapshot with these files, as far as the repository has them; it is named by its commit.

        Raises:
            ModelNotFoundError: they can be had neither from the hub nor from the cache.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, IncompleteSnapshotError, LocalEntryNotFoundError

        try:
            return Path(
                snapshot_download(name, revision=revision, cache_dir=self._cache, allow_patterns=list(names))
            )
        except (IncompleteSnapshotError, LocalEntryNotFoundError) as error:
            raise ModelNotFoundError(
                f"{name}: the hub cannot be reached, and {self._cache} does not have all of it. Allow the way to "
                "the hub (HF_ENDPOINT, HF_HUB_OFFLINE), or fill the cache where there is one."
            ) from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise _absent(name, revision, error) from error

    def fetch_checked(
        self, name: str, revision: str | None, names: Sequence[str], sizes: Mapping[str, int] | None
    ) -> Path:
        """Do as `fetch`, after a look at the sizes.

        Raises:
            ModelNotFoundError: as `fetch`.
            ModelBrokenError: a file is larger than it may be.
        """
        for file in names:
            folders.refuse_large(name, file, (sizes or {}).get(file))
        return self.fetch(name, revision, names)


def _absent(name: str, revision: str | None, error: Exception) -> ModelNotFoundError:
    where = f" at revision {revision}" if revision else ""
    return ModelNotFoundError(
        f"{name}: not on the hub{where} ({type(error).__name__}). Is the name right, and does HF_TOKEN allow it?"
    )


def hash_files(files: Mapping[str, Path], large: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of a snapshot's files by name; that of the large ones is their name in the hub's cache."""
    blobs = {name: files[name].resolve().name for name in large}
    known = {name: blob for name, blob in blobs.items() if len(blob) == SHA256_LENGTH}
    return checksums.hash_all({name: path for name, path in files.items() if name not in known}) | known
