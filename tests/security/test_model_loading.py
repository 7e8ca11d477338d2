from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.security.test_model_folders import SHIPPED, _edit
from worker.model.errors import ModelBrokenError
from worker.model.sources.resolve import Resolved, resolve_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the complete shipped model, for tests to copy."""
    return Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("whole") / "model"))


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "max_position_embeddings", "vocab_size"])
def test_memory_is_bound_by_the_file_before_any_is_taken(whole: Path, tmp_path: Path, key: str) -> None:
    """A configuration of numbers that are each possible, for weights that the file does not hold."""
    from worker.model import gliner_loader

    copied = _copy(whole, tmp_path)
    _edit(copied / "gliner_config.json", lambda c: c["encoder_config"].update({key: 12 * 2**18}))

    with pytest.raises(ModelBrokenError, match="describes a model of"):
        gliner_loader.load_gliner(copied, "cpu")


def _copy(whole: Path, tmp_path: Path) -> Path:
    """Copy the small files and link to the large one, which no test changes."""
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in whole.iterdir():
        if path.suffix == ".safetensors":
            os.link(path, copied / path.name)
        else:
            shutil.copy(path, copied)
    return copied


def test_files_that_change_after_the_check_are_not_loaded(whole: Path, tmp_path: Path) -> None:
    """Changed configuration, a new file and changed weights are refused by loading."""
    from worker.model.engine import EngineOptions, load_model

    copied = _copy(whole, tmp_path)
    checked = resolve_model(str(copied), None, tmp_path)

    def refused(model: Resolved) -> None:
        with pytest.raises(ModelBrokenError, match="changed since it was checked"):
            load_model(model, EngineOptions("cpu", "fp32", "torch"))

    config = (copied / "gliner_config.json").read_bytes()
    (copied / "gliner_config.json").write_bytes(config.replace(b'"max_len": 256', b'"max_len": 255'))
    refused(checked)
    (copied / "gliner_config.json").write_bytes(config)
    (copied / "added_tokens.json").write_text("{}")
    refused(checked)
    (copied / "added_tokens.json").unlink()
    weights = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").unlink()
    (copied / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    refused(checked)


def test_nothing_elsewhere_is_read(whole: Path, tmp_path: Path) -> None:
    """Paths of another machine in a published configuration are left alone, and the model loads."""
    from worker.model import gliner_loader

    copied = _copy(whole, tmp_path)
    _edit(copied / "gliner_config.json", lambda c: c.update(model_name=str(tmp_path)))
    _edit(copied / "tokenizer_config.json", lambda c: c.update(tokenizer_file=str(tmp_path / "evil.json")))
    (tmp_path / "evil.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "EVIL", "auto_mapping": {"a": "b"}}')

    assert gliner_loader.load_gliner(copied, "cpu").data_processor.transformer_tokenizer.vocab_size > 30_000
    assert os.environ.get("TRANSFORMERS_OFFLINE") is None
