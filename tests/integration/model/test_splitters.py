"""The splitter of a model, and another one in its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.schema import Document, Options
from jobs.tasks import Tasks
from tests.conftest import Checkpoint
from tests.support.families import Family
from tests.support.scripts import SCRIPTS
from worker.model.engine import EngineOptions, GlinerEngine, load_model
from worker.model.errors import ModelError
from worker.model.sources.resolve import Resolved, SourceOptions, resolve_model
from worker.protocols import ShardRef, Span
from worker.text.merging import Findings, merge_windows
from worker.text.windows import JobContext, cut_document

SHIPPED = Path(__file__).parents[3] / "models" / "gleaner-small"


def _spans(engine: GlinerEngine, text: str) -> list[tuple[int, int]]:
    plan = cut_document(
        Document(0, "0", text),
        JobContext(ShardRef("job", 0), Tasks({"person": None}), Options(threshold=0.0)),
        engine,
    )
    outcomes: list[tuple[Span, ...]] = []
    for window in plan.windows:
        batch = engine.collate([window])
        [spans] = engine.decode(batch, engine.forward(batch))
        outcomes.append(tuple(spans))
    return [
        (entity.start, entity.end) for entity in merge_windows(plan, Findings.collect(plan, outcomes), 1).entities
    ]


def _with_splitter(folder: Path, copy: Path, name: str) -> Path:
    shutil.copytree(folder, copy)
    config = json.loads((copy / "gliner_config.json").read_text())
    (copy / "gliner_config.json").write_text(json.dumps(config | {"words_splitter_type": name}))
    return copy


def test_char_finds_parts_of_a_text_without_blanks(checkpoint: Checkpoint) -> None:
    """By whitespace an entity is all of a clause; by characters it may be a name in it."""
    text, folder = SCRIPTS["han"], checkpoint(Family())
    whitespace = load_model(Resolved(folder, "x"), EngineOptions("cpu", "fp32", "torch"))
    char = load_model(Resolved(folder, "x"), EngineOptions("cpu", "fp32", "torch", splitter="char"))

    assert whitespace.spec.splitter == "whitespace"
    assert char.spec.splitter == "char"
    assert whitespace.spec != char.spec  # a result cache keeps their answers apart
    assert len(char.split(text).words) > 3 * len(whitespace.split(text).words)
    assert min(end - start for start, end in _spans(char, text)) < min(4, len(text))


def test_the_choice_of_a_runtime_is_kept_for_each_splitter(tmp_path: Path) -> None:
    """A start with another splitter does not read with that of the start before."""
    source = Resolved(SHIPPED, "x")
    for splitter in ("model", "char", "model"):
        engine = load_model(source, EngineOptions("cpu", "fp32", "onnx", tmp_path, splitter=splitter))
        assert engine.spec.splitter == ("char" if splitter == "char" else "whitespace")
        words = [*engine.split("北京 Oslo").words]
        assert words == (["北", "京", "Oslo"] if splitter == "char" else ["北京", "Oslo"])


def test_a_model_may_name_char(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """`words_splitter_type: char`, which gliner does not have, is read as the setting is."""
    folder = _with_splitter(checkpoint(Family()), tmp_path / "model", "char")
    engine = load_model(resolve_model(str(folder), None, tmp_path), EngineOptions("cpu", "fp32", "torch"))
    assert engine.spec.splitter == "char"
    assert [*engine.split("北京").words] == ["北", "京"]


@pytest.mark.parametrize("name", ["stanza", "jieba"])
def test_a_splitter_that_cannot_be_had_is_refused_or_replaced(
    checkpoint: Checkpoint, tmp_path: Path, name: str
) -> None:
    """All gliner-x models name stanza; the message names the setting with which they load."""
    folder = _with_splitter(checkpoint(Family()), tmp_path / "model", name)
    with pytest.raises(ModelError, match=r"GLEANER_WORD_SPLITTER=whitespace") as refused:
        resolve_model(str(folder), None, tmp_path)
    assert name in str(refused.value)

    resolved = resolve_model(str(folder), None, tmp_path, SourceOptions(splitter="whitespace"))
    engine = load_model(resolved, EngineOptions("cpu", "fp32", "torch", splitter="whitespace"))
    assert [*engine.split("Anna met Bo.").words] == ["Anna", "met", "Bo", "."]
