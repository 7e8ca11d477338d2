"""`gleaner model convert`: a copy is verified, complete, or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gleaner.cli.app import app
from gleaner.cli.commands import model
from jobs.tasks import Task
from worker.model.check import Comparison, Verdict
from worker.model.errors import ModelBrokenError, ModelError


def hash_files(folder: Path) -> dict[str, str]:
    """Return the content of each file as its hash."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that converts a folder with a resolver that only lists files."""

    def resolve(source: str, revision: str | None, _cache: Path, options: Any = None) -> SimpleNamespace:
        folder = Path(source)
        if not folder.is_dir():
            raise ModelError(f"{source} is not there")
        files = hash_files(folder)
        return SimpleNamespace(
            folder=folder, files=files, revision=revision or "r1", backbone=options and options.backbone
        )

    resolver = SimpleNamespace(
        resolve_model=resolve,
        SIZES={"model.safetensors": 1, "config.json": 1},
        SourceOptions=lambda backbone, **_more: SimpleNamespace(backbone=backbone),
    )
    monkeypatch.setattr(model, "_import_resolver", lambda: resolver)

    def run(*options: str) -> Result:
        command = ["model", "convert", str(tmp_path / "source"), str(tmp_path / "copy"), *options]
        return CliRunner().invoke(app, command)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with a model, and a file that is no part of one."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "README.md"):
        (folder / name).write_text(name)
    return folder


def test_a_copy_has_the_models_files_alone(source: Path, convert: Callable[..., Result], tmp_path: Path) -> None:
    """And the settings of a worker that loads it are printed."""
    result = convert()
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["config.json", "model.safetensors"]
    assert f"  GLEANER_MODEL_SOURCE={tmp_path / 'copy'}" in result.stdout.splitlines()
    again = convert()
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)


def test_a_copy_is_described_as_json(source: Path, convert: Callable[..., Result], tmp_path: Path) -> None:
    """With the hash of every file that was copied."""
    shown = json.loads(convert("--json", "--revision", "r7", "--backbone-revision", "b").stdout)
    assert (shown["source_revision"], shown["revision"], shown["backbone_revision"]) == ("r7", "r1", "b")
    assert shown["sha256"] == {"config.json": "config.json", "model.safetensors": "model.safetensors"}


def test_a_file_that_changes_while_it_is_copied_is_noticed(
    source: Path, convert: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind."""
    monkeypatch.setattr("shutil.copyfile", lambda _from, to: Path(to).write_text("other"))
    result = convert()
    assert (result.exit_code, "changed while being copied" in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_model_that_cannot_be_resolved_is_a_sentence(convert: Callable[..., Result]) -> None:
    """With exit code 2."""
    result = convert()
    assert (result.exit_code, "is not there" in result.stderr) == (2, True)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the extra to install."""
    monkeypatch.setattr(model, "find_spec", lambda name: None if name == "torch" else object())
    result = CliRunner().invoke(app, ["model", "convert", "a", str(tmp_path / "b")])
    assert (result.exit_code, "requires torch: pip install 'gleaner-ner[worker]'" in result.stderr) == (2, True)


EQUAL = Verdict("torch fp32", (Task.ENTITIES,), 1e-3, (Comparison("Ada " * 20, 1, 0.0, 1e-5),), ())
DIFFERENT = Verdict(
    *("torch fp32", (Task.ENTITIES, Task.RELATIONS), 1e-3),
    comparisons=(Comparison("Ada", 1, 0.0, 0.25),),
    not_compared=(Task.RELATIONS,),
)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Return a function that checks a model whose verdict, or refusal, is given."""

    def run(outcome: Verdict | Exception, *options: str) -> Result:
        def compare(_model: Any, _options: Any) -> Verdict:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        resolver = SimpleNamespace(
            resolve_model=lambda *_arguments: SimpleNamespace(), SourceOptions=lambda *_values, **_more: None
        )
        monkeypatch.setattr(model, "_import_resolver", lambda *_packages: resolver)
        monkeypatch.setattr("worker.model.check.check_model", compare)
        return CliRunner().invoke(app, ["model", "check", str(tmp_path), *options], env={"COLUMNS": "200"})

    return run


def test_a_model_that_equals_its_library_passes(check: Callable[..., Result]) -> None:
    """With a table of the texts, and the runtime that a worker would take."""
    result = check(EQUAL)
    assert result.exit_code == 0, result.stderr
    assert "runs on torch fp32; its tasks: entities" in result.stdout
    assert result.stdout.splitlines()[-1] == "equal: every answer is that of its library"


def test_a_model_that_differs_does_not_pass(check: Callable[..., Result]) -> None:
    """The exit code is 1, and the reason is the last line."""
    result = check(DIFFERENT)
    assert (result.exit_code, "differs by 0.2500" in result.stdout) == (1, True)
    assert "not compared: relations" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("BAD: scores differ from the library's by up to 0.2500")


def test_a_verdict_is_json_for_scripts(check: Callable[..., Result]) -> None:
    """With every comparison."""
    verdict = json.loads(check(DIFFERENT, "--json").stdout)
    assert (verdict["equal"], verdict["comparisons"][0]["in_company"]) == (False, 0.25)
    refused = check(ModelBrokenError("it reads padding"), "--json")
    assert json.loads(refused.stdout) == {"equal": False, "reason": "refused: it reads padding"}


def test_a_model_that_workers_refuse_does_not_pass(check: Callable[..., Result]) -> None:
    """A refusal is a verdict; a source that is not there is a wrong argument."""
    refused = check(ModelBrokenError("it reads padding"))
    assert (refused.exit_code, refused.stderr.strip()) == (1, "refused: it reads padding")
    missing = check(ModelError("it is not there"))
    assert (missing.exit_code, "it is not there" in missing.stderr) == (2, True)
