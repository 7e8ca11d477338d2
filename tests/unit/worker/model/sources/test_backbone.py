"""A model without a tokenizer gets its backbone's, and a folder in the cache that holds both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from worker.model.errors import ModelBrokenError, ModelNotFoundError
from worker.model.sources.backbone import FILES, assemble_folder, fetch_backbone
from worker.model.sources.folders import CONFIG, TOKENIZER, WEIGHTS

ENCODER = {"model_type": "bert", "vocab_size": 90}


def write_folder(folder: Path, files: dict[str, Any]) -> Path:
    """Write JSON files."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a model as on the hub: a configuration and weights."""
    return write_folder(tmp_path / "bare", {CONFIG: {"model_name": "owner/encoder", "vocab_size": 97}, WEIGHTS: 0})


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """Return the files of its backbone, in a folder with a commit's name."""
    return write_folder(tmp_path / "c0ffee", {TOKENIZER: {"a": 1}, "config.json": ENCODER, "vocab.json": {}})


class Hub:
    """A hub with one repository; it records the requests."""

    def __init__(self, snapshot: Path | None = None) -> None:
        self.snapshot = snapshot
        self.requests: list[tuple[str, str | None]] = []

    def fetch(self, name: str, revision: str | None, names: Sequence[str]) -> Path:
        """Return the snapshot."""
        assert set(names) == set(FILES)
        assert WEIGHTS not in names
        self.requests.append((name, revision))
        if self.snapshot is None:
            raise ModelNotFoundError("no network")
        return self.snapshot


def test_a_complete_model_needs_no_backbone(tmp_path: Path) -> None:
    """The hub is not asked."""
    hub = Hub()
    whole = write_folder(tmp_path / "whole", {CONFIG: {"encoder_config": ENCODER}, TOKENIZER: {}})
    assert fetch_backbone("model", whole, None, hub.fetch) is None
    assert hub.requests == []


@pytest.mark.parametrize(("revision", "warned"), [(None, True), ("c0ffee", False)])
def test_a_missing_tokenizer_comes_from_the_backbone(
    bare: Path, backbone: Path, revision: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """At the pinned commit; without one the log says which it was."""
    hub = Hub(backbone)
    assert fetch_backbone("model", bare, revision, hub.fetch) == backbone
    assert hub.requests == [("owner/encoder", revision)]
    assert ("model.backbone_unpinned" in caplog.messages) == warned


@pytest.mark.parametrize("name", [None, 7, "", "../folder", "/etc", "a/b/c", "owner name", "s3://a/b"])
def test_a_backbone_that_is_no_hub_id_is_refused(bare: Path, name: object) -> None:
    """A path of the machine it was trained on, for example; the message says what to copy where."""
    (bare / CONFIG).write_text(json.dumps({"model_name": name}))
    hub = Hub()
    with pytest.raises(ModelBrokenError, match=r"no tokenizer_config\.json and no encoder_config.*not a hub id"):
        fetch_backbone("model", bare, None, hub.fetch)
    assert hub.requests == []


def test_a_backbone_that_cannot_be_fetched_is_named(bare: Path, backbone: Path) -> None:
    """Without a network, or without the files that are needed."""
    with pytest.raises(ModelNotFoundError, match=r"owner/encoder, which is not available.*no network"):
        fetch_backbone("model", bare, None, Hub().fetch)
    (backbone / "config.json").unlink()
    with pytest.raises(ModelBrokenError, match=r"owner/encoder, has no config\.json"):
        fetch_backbone("model", bare, None, Hub(backbone).fetch)
    (bare / CONFIG).write_text(json.dumps({"model_name": "owner/encoder", "encoder_config": ENCODER}))
    assert fetch_backbone("model", bare, None, Hub(backbone).fetch) == backbone


def assemble(bare: Path, backbone: Path | None, name: str = "whole") -> Path:
    """Return the folder in the cache."""
    whole = bare.parent / "complete" / name
    assemble_folder(bare, backbone, bare / WEIGHTS, whole)
    return whole


def test_the_folder_has_the_files_of_both(bare: Path, backbone: Path) -> None:
    """By links; the model's file wins. The configuration makes gliner add the model's tokens to the tokenizer."""
    (bare / "vocab.json").write_text("[]")
    whole = assemble(bare, backbone)
    assert {path.name for path in whole.iterdir()} == {CONFIG, WEIGHTS, TOKENIZER, "config.json", "vocab.json"}
    assert (whole / "vocab.json").resolve() == bare / "vocab.json"
    assert (whole / TOKENIZER).resolve() == backbone / TOKENIZER
    config = json.loads((whole / CONFIG).read_text())
    assert config["encoder_config"] == ENCODER | {"vocab_size": 97}
    assert (config["class_token_index"], config["vocab_size"]) == (-1, -1)


def test_a_complete_model_keeps_its_configuration(tmp_path: Path) -> None:
    """Only its weights come from elsewhere."""
    config = {"encoder_config": ENCODER, "vocab_size": 97}
    whole = assemble(write_folder(tmp_path / "model", {CONFIG: config, TOKENIZER: {}, WEIGHTS: 0}), None)
    assert json.loads((whole / CONFIG).read_text()) == config


def test_a_folder_is_made_again_only_if_something_changed(bare: Path, backbone: Path) -> None:
    """A link that leads nowhere, or another configuration."""
    whole = assemble(bare, backbone)
    marker = (whole / CONFIG).stat().st_ino
    assert (assemble(bare, backbone) / CONFIG).stat().st_ino == marker
    (whole / TOKENIZER).unlink()
    (whole / TOKENIZER).symlink_to(bare / "gone")
    assert (assemble(bare, backbone) / TOKENIZER).is_file()
    (bare / CONFIG).write_text(json.dumps({"model_name": "owner/encoder", "max_len": 7}))
    assert json.loads((assemble(bare, backbone) / CONFIG).read_text())["max_len"] == 7
