"""The private copy of a model's small files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.support.fakes.model_folder import hash_folder, write_model_folder
from worker.model.errors import ModelBrokenError
from worker.model.sources.folders import CONFIG, TOKENIZER, WEIGHTS
from worker.model.sources.private_copy import copy_model, force_offline, wrap_library_errors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder with the files of a model."""
    return write_model_folder(tmp_path / "model")


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, "config.json"])
def test_a_file_that_changed_since_it_was_checked_is_refused(model: Path, name: str) -> None:
    """Or one that is gone, or that was not there."""
    files = hash_folder(model)
    for change in (lambda path: path.write_text('{"a":1}'), Path.unlink):
        change(model / name)
        with pytest.raises(ModelBrokenError, match="changed since it was checked"), copy_model(model, files):
            pass
    (model / name).write_text("{}")
    remaining = {key: value for key, value in files.items() if key != name}
    with pytest.raises(ModelBrokenError, match="changed since"), copy_model(model, remaining):
        pass


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, WEIGHTS])
def test_an_incomplete_folder_is_refused(model: Path, name: str) -> None:
    """Without hashes the files are checked only now."""
    (model / name).unlink()
    with pytest.raises(ModelBrokenError, match="is missing"), copy_model(model, {}):
        pass


def test_libraries_are_offline_while_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an error; afterwards everything is as it was."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with contextlib.suppress(ZeroDivisionError), force_offline():
        assert (os.environ["HF_HUB_OFFLINE"], os.environ["TRANSFORMERS_OFFLINE"]) == ("1", "1")
        assert constants.HF_HUB_OFFLINE
        raise ZeroDivisionError
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert "TRANSFORMERS_OFFLINE" not in os.environ
    assert not constants.HF_HUB_OFFLINE


class Panic(BaseException):
    """A panic in a library written in Rust."""


Panic.__module__ = "pyo3_runtime"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("hidden_size"), "the library cannot load it: KeyError: 'hidden_size'"),
        (Panic("index out of bounds"), "its tokenizer is broken: Panic: index out of bounds"),
        (ValueError("x" * 9000), "ValueError: x{500}$"),
    ],
)
def test_any_error_of_the_libraries_becomes_one_sentence(error: BaseException, message: str) -> None:
    """With the folder; panics, which are no exceptions, too."""
    with pytest.raises(ModelBrokenError, match=message) as caught, wrap_library_errors(Path("folder")):
        raise error
    assert str(caught.value).startswith("folder: ")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ModelBrokenError("ours"), KeyboardInterrupt(), SystemExit(3)])
def test_our_own_errors_and_interruptions_pass(error: BaseException) -> None:
    """Unchanged."""
    with pytest.raises(type(error)) as caught, wrap_library_errors(Path("folder")):
        raise error
    assert caught.value is error
