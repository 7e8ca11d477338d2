"""The hub's client without a hub: offline, only its cache counts. With one: tests/integration/model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from worker.model.errors import ModelBrokenError, ModelNotFoundError
from worker.model.sources import hub_client

COMMIT = "a" * 40


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the client off the network, as HF_HUB_OFFLINE does at its import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def write_snapshot(cache: Path, files: dict[str, bytes]) -> Path:
    """Write a repository as the client stores it: files named by their SHA-256, and links to them."""
    home = cache / "hub" / "models--owner--name"
    snapshot = home / "snapshots" / COMMIT
    for folder in (snapshot, home / "blobs", home / "refs"):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        blob = home / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    return snapshot


@pytest.mark.usefixtures("offline")
def test_offline_the_cache_answers(tmp_path: Path) -> None:
    """By branch; the listing of the repository is unknown."""
    snapshot = write_snapshot(tmp_path, {"gliner_config.json": b"{}"})
    assert hub_client.list_files("owner/name", None) is None
    for revision in (None, "main"):
        assert hub_client.fetch_files(tmp_path, "owner/name", revision, ["gliner_config.json"]) == snapshot


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("name", "revision"), [("owner/other", None), ("owner/name", "b" * 40)])
def test_offline_a_model_that_is_not_cached_is_not_found(tmp_path: Path, name: str, revision: str | None) -> None:
    """The message says how to get it."""
    write_snapshot(tmp_path, {"gliner_config.json": b"{}"})
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE"):
        hub_client.fetch_files(tmp_path, name, revision, ["gliner_config.json"])


@pytest.mark.usefixtures("offline")
def test_a_name_that_no_hub_has_is_not_found(tmp_path: Path) -> None:
    """The message says to check it."""
    with pytest.raises(ModelNotFoundError, match="not on the hub at revision v1"):
        hub_client.fetch_files(tmp_path, "owner/-bad-/name", "v1", ["config.json"])


def test_a_large_file_is_refused_by_its_listed_size(tmp_path: Path) -> None:
    """Before the hub is asked for it."""
    with pytest.raises(ModelBrokenError, match=r"config\.json has 5,000,000 bytes"):
        hub_client.fetch_files(tmp_path, "owner/name", None, ["config.json"], {"config.json": 5_000_000})


def test_large_files_are_not_hashed_again(tmp_path: Path) -> None:
    """The cache names them by their SHA-256; others, and those with another name there, are read."""
    snapshot = write_snapshot(tmp_path, {"model.safetensors": b"weights", "config.json": b"{}"})
    files = {path.name: path for path in snapshot.iterdir()}
    wanted = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert hub_client.hash_snapshot(files, ["model.safetensors"]) == wanted

    files["model.safetensors"].resolve().write_bytes(b"unread")
    assert hub_client.hash_snapshot(files, ["model.safetensors"]) == wanted
    (tmp_path / "short").write_bytes(b"read")
    assert hub_client.hash_snapshot({"w": tmp_path / "short"}, ["w"]) == {"w": hashlib.sha256(b"read").hexdigest()}
