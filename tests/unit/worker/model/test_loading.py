"""Checks of a folder before and after gliner loads it. Whole models: tests/security/test_model_loading.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.fakes.model_folder import hash_folder, write_model_folder
from worker.model import loading
from worker.model.errors import ModelBrokenError
from worker.model.loading import load_gliner
from worker.model.sources.folders import CONFIG, TOKENIZER, WEIGHTS
from worker.model.sources.private_copy import copy_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder with the files of a model."""
    return write_model_folder(tmp_path / "model")


def test_the_copy_names_no_other_file(model: Path) -> None:
    """Neither a path of the author's machine, nor a configuration whose kind transformers would guess."""
    with copy_model(model, hash_folder(model)) as copy:
        loading._remove_paths(copy)
        assert {path.name for path in copy.iterdir()} == {CONFIG, TOKENIZER, WEIGHTS}
        assert json.loads((copy / TOKENIZER).read_text()) == {"do_lower_case": True}
        assert json.loads((copy / CONFIG).read_text())["model_name"] == str(copy)
        assert (copy / WEIGHTS).resolve() == model / WEIGHTS
    assert json.loads((model / TOKENIZER).read_text())["vocab_file"] == "/etc/passwd"


def test_without_a_temporary_folder_the_message_names_the_setting(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may have a read-only disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(ModelBrokenError, match="TMPDIR"):
        load_gliner(model, "cpu")


def test_weights_at_random_values_are_found() -> None:
    """Those that the file does not have; tied ones are stored once, and BERT's pooler is never run."""
    tied = torch.zeros(2)
    state = {
        "a": torch.zeros(1),
        "tied": tied,
        "also": tied,
        "bert.pooler.dense": torch.zeros(1),
        "new": torch.ones(1),
    }
    assert loading._missing_weights(state, {"a", "tied"}) == ["new"]
    assert loading._missing_weights(state, {"a", "new"}) == ["also", "tied"]
    assert loading._missing_weights(state, {"a", "also", "new", "unknown"}) == []
