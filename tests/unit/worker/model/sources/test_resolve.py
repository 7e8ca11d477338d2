"""From a model's source to a checked folder and its revision. Hubs and buckets: tests/integration/model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.conftest import ROOT
from worker.model.errors import ExtraMissingError, ModelBrokenError, ModelNotFoundError, PickleRefusedError
from worker.model.sources.folders import CALIBRATION, CONFIG, TOKENIZER, WEIGHTS
from worker.model.sources.resolve import (
    Convert,
    Resolved,
    SourceOptions,
    _Request,
    check_folder,
    read_calibration,
    resolve_model,
)

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_config(folder: Path, **values: Any) -> None:
    """Write a configuration of gliner's."""
    (folder / CONFIG).write_text(json.dumps({"encoder_config": {"model_type": "bert"}, **values}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder that is a model for all checks: weights of three numbers, and the least JSON."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_config(folder)
    (folder / TOKENIZER).write_text("{}")
    save_file({"w": np.zeros(3, np.float32)}, folder / WEIGHTS)
    return folder


def resolve(folder: Path, revision: str | None = None, **options: Any) -> Resolved:
    """Resolve a folder, with a cache next to it."""
    return resolve_model(str(folder), revision, folder.parent / "cache", SourceOptions(**options))


@settings(max_examples=40)
@given(st.text(max_size=20))
def test_a_source_of_no_kind_is_not_found(source: str) -> None:
    """Whatever its characters; neither the network nor the cache is used."""
    names = source.split("/")
    if len(names) == 2 and all(names) and not source.startswith((".", "~")):
        return  # a hub id
    if source in (".", "..") or "\0" in source or Path(source).is_dir():
        return
    with pytest.raises(ModelNotFoundError, match="not a folder here, nor a hub id"):
        resolve_model(source, None, Path("unused"))


def test_a_folder_is_its_own_model(model: Path) -> None:
    """Its revision is that of its content, without documentation; nothing is copied."""
    first = resolve(model)
    assert (first.folder, first.calibration, first.backbone) == (model, (), "")
    assert set(first.files) == {CONFIG, TOKENIZER, WEIGHTS}
    (model / "README.md").write_text("about")
    assert resolve(model).revision == first.revision
    save_file({"w": np.ones(3, np.float32)}, model / WEIGHTS)
    assert resolve(model).revision != first.revision
    assert not (model.parent / "cache").exists()


def test_a_revision_of_a_folder_must_be_its_own(model: Path) -> None:
    """By the beginning of its SHA-256."""
    revision = resolve(model).revision
    assert resolve(model, revision[:7]).revision == revision
    with pytest.raises(ModelBrokenError, match=f"revision {revision}, but 0000000 is requested"):
        resolve(model, "0000000")


def test_weights_in_shards_become_one_file_in_the_cache(model: Path) -> None:
    """Of the variant that the settings name; the checked files are those of the new folder."""
    (model / WEIGHTS).unlink()
    for number, name in enumerate(SHARDS):
        save_file({f"t{number}": np.zeros(2, np.float16)}, model / name.replace(".", ".fp16.", 1))
    resolved = resolve(model, variant="fp16")
    assert resolved.folder.is_relative_to(model.parent / "cache" / "complete")
    assert resolved.revision.endswith("-fp16")
    assert set(resolved.files) == {CONFIG, TOKENIZER, WEIGHTS} == {path.name for path in resolved.folder.iterdir()}
    assert resolve(model, variant="fp16") == resolved


@pytest.mark.parametrize(
    ("convert", "revision", "commit", "allowed"),
    [
        ("true", None, "", True),
        ("false", "c0ffee7", "", False),
        ("auto", None, "", False),
        ("auto", "main", "", False),
        ("auto", "c0ffee7", "", True),
        ("auto", "c0ffee7", "c0ffee7" + "0" * 33, True),
        ("auto", "c0ffee7", "0" * 40, False),  # a tag that looks like a commit
        ("auto", "c0ffee", "", False),  # too short
    ],
)
def test_pickles_are_converted_if_the_settings_allow_it(
    convert: Convert, revision: str | None, commit: str, allowed: bool
) -> None:
    """`auto` allows it for content that cannot change: a commit."""
    request = _Request("model", revision, SourceOptions(convert=convert))
    if allowed:
        assert request.choose_weights(["pytorch_model.bin"], commit).pickled
        return
    with pytest.raises(PickleRefusedError, match="GLEANER_MODEL_CONVERT=true"):
        request.choose_weights(["pytorch_model.bin"], commit)
    assert not request.choose_weights(["pytorch_model.bin", WEIGHTS]).pickled


def test_a_splitter_that_is_not_there_is_named_before_the_weights_are_read(model: Path) -> None:
    """The model's own, or the one of the settings."""
    write_config(model, words_splitter_type="camel")
    with pytest.raises(ExtraMissingError, match="camel-tools"):
        resolve(model)
    assert resolve(model, splitter="whitespace").folder == model


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, WEIGHTS])
def test_a_folder_with_a_missing_part_is_refused(model: Path, name: str) -> None:
    """The message names the file."""
    (model / name).unlink()
    with pytest.raises(ModelBrokenError, match=name.replace(".", r"\.")):
        check_folder(model)


@pytest.mark.parametrize(("name", "error"), [("run.py", ModelBrokenError), ("optimizer.pt", PickleRefusedError)])
def test_a_folder_with_more_than_data_is_refused(model: Path, name: str, error: type[Exception]) -> None:
    """Code and pickles, wherever they are."""
    (model / "more").mkdir()
    (model / "more" / name).touch()
    with pytest.raises(error, match=name):
        check_folder(model)


def test_weights_above_the_limit_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all shards together."""
    monkeypatch.setattr("worker.model.sources.weight_files.MAX_BYTES", 20)
    with pytest.raises(ModelBrokenError, match="more than 20"):
        check_folder(model)


def test_a_model_may_ship_a_calibration(model: Path) -> None:
    """An invalid one ends the start, and is named; the shipped model's is valid."""
    assert read_calibration(model) == ()
    file = model / CALIBRATION
    file.write_text('{"version": 1, "knots": [[0.2, 0.1], [0.9, 1]]}')
    assert resolve(model).calibration == ((0.2, 0.1), (0.9, 1.0))
    for broken in ("{}", "[]", '{"knots": [[0.9, 0.1], [0.2, 0.3]]}', '{"knots": 7}', "{"):
        file.write_text(broken)
        with pytest.raises(ModelBrokenError, match=r"calibration\.json"):
            read_calibration(model)
    assert read_calibration(ROOT / "models" / "gleaner-small")


def test_a_folder_that_moved_is_another_origin(model: Path) -> None:
    """Two folders with the same shards have two completed ones, whose links are their own."""
    (model / WEIGHTS).unlink()
    for number, name in enumerate(SHARDS):
        save_file({f"t{number}": np.zeros(2, np.float16)}, model / name)
    copy = Path(shutil.copytree(model, model.parent / "copy"))
    first, second = resolve(model), resolve(copy)
    assert first.revision == second.revision
    assert first.folder != second.folder
    assert (second.folder / TOKENIZER).resolve().parent == copy
