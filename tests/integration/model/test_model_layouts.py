"""Models as they are published: pickles, shards, variants, without tokenizer or encoder; and other kinds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gliner import GLiNER
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT, Checkpoint
from tests.integration.model.test_backbone import make_backbone, make_bare, make_whole
from tests.support.families import Backbone, Family, Weights
from tests.support.servers.bucket import model_bucket
from tests.support.servers.hub import commit, hub
from worker.model.errors import ModelBrokenError
from worker.model.gliner_loader import load_gliner
from worker.model.sources.resolve import Resolved, SourceOptions, resolve_model

USUAL = Family()
TEXT = "Ada Lovelace worked with Charles Babbage in London in 1843."
LABELS = ["person", "place", "date"]


def _entities(folder: Path, files: dict[str, str] | None = None) -> list[dict[str, Any]]:
    model = load_gliner(folder, "cpu", files)
    entities: list[dict[str, Any]] = model.predict_entities(TEXT, LABELS, threshold=0.01)
    return entities


def _loaded(resolved: Resolved) -> list[dict[str, Any]]:
    return _entities(resolved.folder, dict(resolved.files))


@pytest.mark.parametrize(
    "family",
    [USUAL, Family(backbone=Backbone.MT5), Family(architecture="UniEncoderToken")],
    ids=str,
)
def test_a_converted_model_answers_as_its_pickle(family: Family, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Every tensor arrives, tied ones included: the same entities with the same scores."""
    pickled = checkpoint(family, Weights.PICKLE)
    expected = GLiNER.from_pretrained(str(pickled), local_files_only=True).predict_entities(
        TEXT, LABELS, threshold=0.01
    )
    assert expected

    assert _loaded(resolve_model(str(pickled), None, tmp_path, SourceOptions(convert="true"))) == expected


def _copy(folder: Path, target: Path, *without: str) -> Path:
    shutil.copytree(folder, target)
    for name in without:
        (target / name).unlink(missing_ok=True)
    return target


def _shard(folder: Path, variant: str = "") -> None:
    """Divide a folder's weights over three shards, with the index that transformers writes."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, ending = sorted(tensors), f".{variant}.safetensors" if variant else ".safetensors"
    files = [f"model-0000{n + 1}-of-00003{ending}" for n in range(3)]
    for n, file in enumerate(files):
        save_file({name: tensors[name] for name in names[n::3]}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[n % 3] for n, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_joined(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The same answers as from one file; a missing shard and a tensor in two of them are said."""
    folder = _copy(checkpoint(USUAL), tmp_path / "model")
    _shard(folder)

    assert _loaded(resolve_model(str(folder), None, tmp_path / "cache")) == _entities(checkpoint(USUAL))

    shutil.copy(folder / "model-00001-of-00003.safetensors", folder / "model-00002-of-00003.safetensors")
    with pytest.raises(ModelBrokenError, match="also in another shard"):
        resolve_model(str(folder), None, tmp_path / "cache")
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelBrokenError, match="2 of the 3 shards"):
        resolve_model(str(folder), None, tmp_path / "cache")


def test_a_variant_is_taken_where_it_is_the_only_one_or_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """In one file or in shards; a named one shows in the revision, for its scores are others."""
    whole = checkpoint(USUAL)
    folder = _copy(whole, tmp_path / "model", "model.safetensors")
    halves = {name: tensor.half() for name, tensor in load_file(whole / "model.safetensors").items()}
    save_file(halves, folder / "model.fp16.safetensors", {"format": "pt"})

    only = resolve_model(str(folder), None, tmp_path / "cache")
    assert load_file(only.folder / "model.safetensors").keys() == halves.keys()
    assert _loaded(only)

    shutil.copy(whole / "model.safetensors", folder)
    usual, named = (
        resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(variant=variant))
        for variant in ("", "fp16")
    )
    assert usual.folder == folder
    assert named.revision == f"{usual.revision}-fp16"
    assert named.files["model.safetensors"] == only.files["model.safetensors"]
    with pytest.raises(ModelBrokenError, match=r"no weights of the variant 'bf16'\. Available: .*, fp16"):
        resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(variant="bf16"))

    (folder / "model.safetensors").unlink()
    shutil.copy(folder / "model.fp16.safetensors", folder / "model.int8.safetensors")
    with pytest.raises(ModelBrokenError, match="Set GLEANER_MODEL_VARIANT to one of fp16, int8"):
        resolve_model(str(folder), None, tmp_path / "cache")


RESOLVE = """
import json, pathlib, sys
from worker.model.errors import ModelError
from worker.model.sources.resolve import resolve_model
for source, revision in json.loads(sys.argv[2]):
    try:
        found = resolve_model(source, revision, pathlib.Path(sys.argv[1]))
        print(json.dumps([str(found.folder), found.revision, found.backbone, dict(found.files)]))
    except ModelError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def _resolve(cache: Path, *sources: str, revision: str | None = None, **environment: str) -> list[list[Any]]:
    """Resolve sources in a process that has this environment, as huggingface_hub reads it when it is imported."""
    settings = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    settings |= {
        "HF_HOME": str(cache / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    requests = json.dumps([[source, revision] for source in sources])
    run = subprocess.run(
        [sys.executable, "-c", RESOLVE, str(cache), requests],
        env=settings, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]


def test_folders_and_buckets_are_completed_as_hub_ids_are(tmp_path: Path) -> None:
    """Without a tokenizer (v2.1 downloaded by hand) or with a null encoder (v2.5), wherever the model lies."""
    make_backbone(tmp_path / "backbone")
    whole, bare, null = make_whole(tmp_path / "backbone", tmp_path / "whole"), tmp_path / "bare", tmp_path / "null"
    make_bare(whole, bare)
    shutil.copytree(whole, null)
    shutil.copy(bare / "gliner_config.json", null)
    content = json.loads((null / "gliner_config.json").read_text()) | {"encoder_config": None}
    (null / "gliner_config.json").write_text(json.dumps(content))
    with (
        hub({"owner/bare": bare, "owner/backbone": tmp_path / "backbone"}) as url,
        model_bucket(bare) as (address, access),
    ):
        sources = (str(bare), str(null), "owner/bare", address)
        answers = _resolve(tmp_path / "cache", *sources, HF_ENDPOINT=url, **access)
        offline = _resolve(tmp_path / "empty", str(bare), str(null), HF_HUB_OFFLINE="1")
    expected = _entities(whole)
    assert expected
    for source, answer in zip(sources, answers, strict=True):
        folder, _, commit_of_backbone, files = answer
        assert commit_of_backbone == commit("owner/backbone"), source
        assert _entities(Path(folder), files) == expected, source
        assert Path(folder).is_relative_to(tmp_path / "cache")
    assert {kind for kind, _ in offline} == {"ModelNotFoundError"}
    assert (
        "has no tokenizer_config.json and no encoder_config; they come from its backbone, owner/backbone"
        in (offline[0][1])
    )
    assert "has no encoder_config; they come" in offline[1][1]
    assert "Copy the tokenizer's files" in offline[0][1]


def _other(folder: Path, config: dict[str, Any], *files: str) -> Path:
    """Make a repository of another library: its configuration, and weights that nobody should fetch."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in files:
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 4096)
    return folder


def test_other_kinds_of_models_are_named_before_their_weights_are_fetched(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """By the configuration alone: an incomplete GLiNER2, GLiClass, a plain encoder, decoders."""
    models = tmp_path / "made"
    models.mkdir()
    cases: dict[str, tuple[Path, str]] = {
        "gliner2": (_other(models / "a", {"model_type": "extractor", "architectures": ["Extractor"]}), "GLiNER2"),
        "gliclass": (_other(models / "b", {"model_type": "GLiClass"}), "GLiClass"),
        "bert": (
            _other(models / "c", {"architectures": ["BertForTokenClassification"]}),
            "BertForTokenClassification",
        ),
        "glirel": (_other(models / "d", {}, "glirel_config.json"), "GLiREL"),
        "lora": (_other(models / "e", {}, "adapter_config.json"), "adapter"),
    }
    architecture = "UniEncoderTokenDecoder"
    cases[architecture.lower()] = checkpoint(Family(architecture=architecture)), "generates labels"
    with hub({f"owner/{name}": folder for name, (folder, _) in cases.items()}) as url:
        answers = _resolve(tmp_path / "cache", *(f"owner/{name}" for name in cases), HF_ENDPOINT=url)
    for (name, (_, kind)), (error, text) in zip(cases.items(), answers, strict=True):
        assert error == "ModelBrokenError", name
        assert text.startswith(f"owner/{name}: ")
        assert kind in text
        assert "uni-encoders" in text
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    for name, (folder, kind) in cases.items():
        with pytest.raises(ModelBrokenError, match=kind):
            resolve_model(str(folder), None, tmp_path / "cache")
        assert name


def test_a_pickled_hub_model_is_fetched_only_where_it_may_be_converted(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A commit is a pin, a branch is none; the revision stays the hub's commit, and then no hub is needed."""
    pickled = checkpoint(USUAL, Weights.PICKLE)
    with hub({"owner/pickled": pickled}) as url:
        [branch] = _resolve(tmp_path / "cache", "owner/pickled", revision="main", HF_ENDPOINT=url)
        [tag] = _resolve(tmp_path / "cache", "owner/pickled", revision="20240101", HF_ENDPOINT=url)
        assert not list((tmp_path / "cache").rglob("*.bin"))
        [pinned] = _resolve(tmp_path / "cache", "owner/pickled", revision=commit("owner/pickled"), HF_ENDPOINT=url)
    [offline] = _resolve(tmp_path / "cache", "owner/pickled", revision=commit("owner/pickled"), HF_HUB_OFFLINE="1")
    [unreachable] = _resolve(tmp_path / "cache", "owner/pickled", revision=commit("owner/pickled"), HF_ENDPOINT=url)
    assert branch[0] == tag[0] == "PickleRefusedError"
    assert "`gleaner model convert owner/pickled FOLDER --revision main`" in branch[1]
    assert pinned[1] == commit("owner/pickled")
    assert offline == pinned == unreachable
    assert _entities(Path(pinned[0]), pinned[3]) == _entities(checkpoint(USUAL))


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gleaner", "model", "convert", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_makes_a_folder_that_loads(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A pickle becomes a folder of files with its revision; existing files are not overwritten."""
    pickled = checkpoint(USUAL, Weights.PICKLE)
    converted, cache = tmp_path / "made", str(tmp_path / "cache")

    run = _run(str(pickled), str(converted), "--cache", cache, "--json")

    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert not any(path.is_symlink() for path in converted.iterdir())
    resolved = resolve_model(str(converted), answer["revision"], tmp_path / "other")
    assert resolved.folder == converted
    assert answer["sha256"] == {name: resolved.files[name] for name in answer["sha256"]}
    assert _loaded(resolved) == _entities(checkpoint(USUAL))
    again = _run(str(pickled), str(converted), "--cache", cache)
    assert again.returncode == 2
    assert "already exists" in again.stderr
    evil = _copy(pickled, tmp_path / "evil")
    torch.save({"x": print}, evil / "pytorch_model.bin")
    refused = _run(str(evil), str(tmp_path / "none"), "--cache", cache)
    assert refused.returncode == 2
    assert "calls '__builtin__.print'" in " ".join(refused.stderr.split())
    assert not (tmp_path / "none").exists()
