"""GLiNER2 and GLiNER2.5 answer as gliner2's `batch_extract` does: every task and script, alone and in company.

All kinds of heads, and all tasks of all texts, with FAMILIES=all.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from gliner2.inference.engine import SpanExtractor
from gliner2.models.boundary.engine import BoundaryExtractor

from jobs.schema import Document, Options
from jobs.tasks import Classification, RelationType, Task, Tasks
from tests.conftest import ROOT
from tests.integration.model.extractors import Extractor, build_extractor
from tests.integration.model.test_model_layouts import _resolve as resolve_in_process
from tests.support.families import Backbone
from tests.support.scripts import SCRIPTS
from tests.support.servers.bucket import model_bucket
from tests.support.servers.hub import hub
from worker.model.engine import EngineOptions, load_model
from worker.model.errors import ExtraMissingError, ModelBrokenError
from worker.model.extractor.decode import Edge, link_edges
from worker.model.sources.configs import Library
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine, ShardRef, Span, Spans, Window
from worker.text.spans import select_spans
from worker.text.windows import JobContext, cut_document

TOLERANCE = 1e-4
EVERY = os.environ.get("FAMILIES") == "all"
KINDS = [
    Extractor(counting_layer="count_lstm_v2"),
    Extractor("boundary", head={"candidate_pool": "shared", "boundary_top_k_alpha": 0.5}),
]
REST = [
    Extractor(),
    Extractor(backbone=Backbone.XLMR, counting_layer="count_lstm_moe"),
    Extractor("boundary"),
    Extractor("boundary", Backbone.BERT, head={"directional_relation_states": True, "overlap_policy": "nested"}),
    Extractor(
        "boundary",
        head={
            "boundary_top_k_alpha": 0.5, "start_top_k": 4, "end_top_k": 4, "enable_span_content": True,
            "enable_rotary_endpoints": True, "adaptive_threshold": True, "relation_biaffine_content": True,
        },
    ),
]  # fmt: skip
LABELS = {"person": None, "organization": "a company or an agency", "location": None, "date": "a point in time"}
RELATIONS = {"works for": RelationType(), "located in": RelationType(description="is in a place")}
CLASSES = {
    "topic": Classification(labels={"politics": None, "sport": "games", "science": None}),
    "tone": Classification(labels={"happy": None, "sad": "unhappy"}, multi_label=True),
}
TASKS = [
    Tasks(LABELS, RELATIONS, CLASSES),
    Tasks(LABELS),
    Tasks(classifications=CLASSES),
    Tasks({f"label {number}": None for number in range(12)}, {}, CLASSES),
]
THRESHOLDS = {"span": 0.6, "boundary": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint to copy."""
    return build_extractor(KINDS[0], tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module", params=KINDS + (REST if EVERY else []), ids=str)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Any, float]:
    """Return a checkpoint behind our engine and as its library loads it, and a threshold with some entities."""
    kind: Extractor = request.param
    folder = build_extractor(kind, tmp_path_factory.mktemp("extractor"))
    source = resolve_model(str(folder), None, Path("unused"))
    assert source.library is Library.GLINER2
    engine = load_model(source, EngineOptions("cpu", "auto", "auto"))
    library: Any = (SpanExtractor if kind.architecture == "span" else BoundaryExtractor).from_pretrained(
        str(folder)
    )
    return engine, library.eval(), THRESHOLDS[kind.architecture]


def cut(engine: Engine, text: str, tasks: Tasks, threshold: float) -> Window:
    """Return a text's only window."""
    options = Options(threshold=threshold, relation_threshold=threshold, flat=False, multi_label=True)
    plan = cut_document(Document(0, "0", text), JobContext(ShardRef("job", 0), tasks, options), engine)
    [window] = plan.windows
    return window


def run(engine: Engine, windows: Sequence[Window]) -> list[Spans]:
    """Return the answers to windows in one micro-batch."""
    batch = engine.collate(windows)
    answers = engine.decode(batch, engine.forward(batch))
    return [answer for answer in answers if isinstance(answer, Spans)]


def ask_library(library: Any, text: str, tasks: Tasks, threshold: float) -> dict[str, Any]:
    """Return the library's own answers to a text alone."""
    classes = [
        {
            "task": name, "labels": [*of.labels], "multi_label": of.multi_label, "cls_threshold": 0.0,
            "label_descriptions": {label: text for label, text in of.labels.items() if text},
        }
        for name, of in tasks.classifications.items()
    ]  # fmt: skip
    schema = {
        "entities": dict.fromkeys(tasks.labels, ""),
        "entity_descriptions": {label: text for label, text in tasks.labels.items() if text},
        "relations": [{name: {"head": "", "tail": ""}} for name in tasks.relations],
        "relation_descriptions": {name: of.description for name, of in tasks.relations.items() if of.description},
        "classifications": classes,
    }
    [answer] = library.batch_extract(
        [text], [schema], threshold=threshold, include_confidence=True, include_spans=True
    )
    result: dict[str, Any] = answer
    return result


class Reader:
    """The library's answers in the words of a text."""

    def __init__(self, engine: Engine, text: str, tasks: Tasks, answer: Mapping[str, Any]) -> None:
        split = engine.split(text)
        self.starts = {start: index for index, start in enumerate(split.starts)}
        self.ends = {end: index + 1 for index, end in enumerate(split.ends)}
        self.length, self.tasks, self.answer = len(text), tasks, answer

    def words(self, item: Mapping[str, Any]) -> tuple[int, int]:
        """Return the first word and the one after the last; the library puts a full stop after the text."""
        return self.starts.get(item["start"], len(self.starts)), self.ends[min(item["end"], self.length)]

    def spans(self) -> dict[tuple[int, ...], float]:
        """Return the entities, of which those of several labels may nest, but not straddle each other."""
        entities = self.answer.get("entities") or {}
        labels = [*self.tasks.labels]
        entries = [
            Span(*self.words(item), labels.index(label), item["confidence"])
            for label, items in entities.items()
            for item in items
            if item["start"] < self.length
        ]
        entries.sort(key=lambda span: -span.score)
        return {span[:3]: span.score for span in select_spans(entries, flat=False, multi_label=True)}

    def edges(self) -> list[Edge]:
        """Return the relations between words."""
        names = [*self.tasks.relations]
        return [
            Edge(
                names.index(name.partition(": ")[0]),
                self.words(edge["head"]),
                self.words(edge["tail"]),
                edge.get("confidence") or min(edge["head"]["confidence"], edge["tail"]["confidence"]),
            )
            for name, edges in self.answer.get("relation_extraction", {}).items()
            for edge in edges
        ]


def compare(window: Window, answer: Spans, reader: Reader) -> None:
    """Compare our answers with the library's."""
    assert {span[:3]: span.score for span in answer} == pytest.approx(reader.spans(), abs=TOLERANCE)
    expected = {pair[:3]: pair.score for pair in link_edges(reader.edges(), answer, window)}
    assert {pair[:3]: pair.score for pair in answer.pairs} == pytest.approx(expected, abs=TOLERANCE)
    for question, scores in zip(window.classes, answer.classes, strict=True):
        ours = dict(zip(question.labels, scores, strict=True))
        theirs = reader.answer[question.name]
        if question.multi_label:
            assert ours == pytest.approx({of["label"]: of["confidence"] for of in theirs}, abs=TOLERANCE)
        else:
            assert max(ours, key=ours.__getitem__) == theirs["label"]
            assert ours[theirs["label"]] == pytest.approx(theirs["confidence"], abs=TOLERANCE)
            assert sum(scores) == pytest.approx(1)


def test_every_task_has_the_librarys_own_answers(models: tuple[Engine, Any, float]) -> None:
    """Texts in all scripts, jobs, tasks and sets of labels in one micro-batch, and each alone."""
    engine, library, threshold = models
    texts = [text.strip() for text in [*SCRIPTS.values()][:: 1 if EVERY else 2]]
    cases = [
        (text, tasks) for i, text in enumerate(texts) for tasks in (TASKS if EVERY else [TASKS[i % len(TASKS)]])
    ]
    windows = [cut(engine, text, tasks, threshold) for text, tasks in cases]
    together = run(engine, windows)
    entities = pairs = 0
    for (text, tasks), window, answer in zip(cases, windows, together, strict=True):
        reader = Reader(engine, text, tasks, ask_library(library, text, tasks, threshold))
        compare(window, answer, reader)
        compare(window, run(engine, [window])[0], reader)
        entities, pairs = entities + len(answer), pairs + len(answer.pairs)
    assert entities > len(texts)
    assert engine.spec.tasks == (Task.ENTITIES, Task.RELATIONS, Task.CLASSIFICATIONS)


def test_a_model_is_fetched_with_its_encoders_configuration(folder: Path, tmp_path: Path) -> None:
    """From the hub and from an object store, where it is in a folder of the model's; again without a network."""
    with hub({"owner/extractor": folder}) as url, model_bucket(folder) as (address, access):
        sources = (str(folder), "owner/extractor", address)
        answers = resolve_in_process(tmp_path / "cache", *sources, HF_ENDPOINT=url, **access)
    answers += resolve_in_process(tmp_path / "cache", "owner/extractor", HF_HUB_OFFLINE="1")
    expected = answers[0][3]
    assert {"model.safetensors", "config.json", "encoder_config/config.json"} <= expected.keys()
    for answer in answers:
        assert answer[3] == expected
        assert (Path(answer[0]) / "encoder_config/config.json").is_file()


def change(folder: Path, name: str, **values: object) -> None:
    """Change values in a JSON file."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_model_that_cannot_be_run_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its files, each with the reason; and where the extra is not installed, by the command that installs it."""
    changes: dict[str, Callable[[Path], object]] = {
        "token_pooling 'mean' is not supported": lambda copy: change(copy, "config.json", token_pooling="mean"),
        "architecture 'other' is not supported": lambda copy: change(copy, "config.json", architecture="other"),
        "auto_map names code": lambda copy: change(copy, "config.json", auto_map={"AutoModel": "a.B"}),
        "model_type 'gpt2' is not supported": lambda copy: change(
            copy, "encoder_config/config.json", model_type="gpt2"
        ),
        "must be one file": lambda copy: (copy / "model.safetensors").rename(copy / "model.fp16.safetensors"),
        "without encoder_config/config.json": lambda copy: (copy / "encoder_config/config.json").unlink(),
        "no tokenizer_config.json": lambda copy: (copy / "tokenizer_config.json").unlink(),
    }
    for number, (message, break_model) in enumerate(changes.items()):
        copy = Path(shutil.copytree(folder, tmp_path / str(number)))
        break_model(copy)
        with pytest.raises(ModelBrokenError, match=message):
            resolve_model(str(copy), None, tmp_path)
    large = Path(shutil.copytree(folder, tmp_path / "large"))
    change(large, "encoder_config/config.json", hidden_size=4800, intermediate_size=9600)
    with pytest.raises(ModelBrokenError, match="describes a model of"):
        load_model(resolve_model(str(large), None, tmp_path), EngineOptions("cpu"))
    with pytest.raises(ValueError, match="run with torch in fp32"):
        load_model(resolve_model(str(folder), None, tmp_path), EngineOptions("cpu", "bf16"))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gliner2" else find_spec(name))
    with pytest.raises(ExtraMissingError, match=r"pip install 'gleaner-ner\[gliner2\]'"):
        resolve_model(str(folder), None, tmp_path)


def test_a_long_text_is_read_in_windows(models: tuple[Engine, Any, float]) -> None:
    """Each is answered as a text of its words would be; the warm-up gives a budget."""
    engine, library, threshold = models
    text = " ".join(SCRIPTS[name] for name in ("latin", "german", "spanish", "polish", "urls"))
    options = Options(threshold=threshold, relation_threshold=threshold, flat=False, multi_label=True)
    plan = cut_document(Document(0, "0", text), JobContext(ShardRef("job", 0), TASKS[0], options), engine)
    assert len(plan.windows) > 2
    window, answer = plan.windows[0], run(engine, [plan.windows[0], plan.windows[-1]])[0]
    part = text[: engine.split(text).ends[len(window.words) - 1]]
    compare(window, answer, Reader(engine, part, TASKS[0], ask_library(library, part, TASKS[0], threshold)))
    assert engine.warm_up() > 0


def test_nothing_but_the_librarys_layers_is_imported() -> None:
    """Not its client for a remote service, nor what training needs."""
    program = "import sys, worker.model.extractor.engine; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"gliner2.api_client", "peft", "gliner", "gliner2.training.trainer"} & {*run.stdout.split()}
