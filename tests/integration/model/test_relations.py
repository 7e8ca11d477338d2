"""Models for relations answer as gliner's `inference` does for a text alone, in every script and company.

A few of them by default; more with FAMILIES=all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from gliner import GLiNER

from jobs.schema import Document, DocumentResult, Labels, Options
from jobs.tasks import RelationType, Task, Tasks
from tests.conftest import Checkpoint
from tests.integration.model.test_families import EVERY, LABEL_SETS, readable
from tests.support.families import Backbone, Family
from tests.support.scripts import SCRIPTS
from worker.batching.batcher import MicroBatcher
from worker.model.engine import EngineOptions, load_model
from worker.model.errors import ModelBrokenError
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine, ShardRef
from worker.text.merging import Findings, merge_windows
from worker.text.windows import CutRules, JobContext, Plan, cut_document

TOLERANCE = 1e-3
WAIT_S = 60.0
SPAN, TOKEN = "UniEncoderSpanRelex", "UniEncoderTokenRelex"
PAIRS = {"relations_layer": "none", "triples_layer": None}
FAMILIES = [
    Family(Backbone.DEBERTA, SPAN, model_max_length=None),
    Family(Backbone.MODERNBERT, TOKEN, config={"relations_layer": "attention", "embed_rel_token": False}),
]
REST = [
    Family(Backbone.DISTILBERT, SPAN, config={"relations_layer": "gcn", "triples_layer": None}),
    Family(Backbone.DISTILBERT, SPAN, embed_ent_token=False, span_mode="conv_share", config=PAIRS),
    *(
        Family(backbone, architecture, config={"relations_layer": layer, "triples_layer": triples})
        for backbone, architecture, layer, triples in product(
            (Backbone.MDEBERTA, Backbone.XLMR, Backbone.MT5),
            (SPAN, TOKEN),
            ("dot", "mlp", "gat", "bilinear", "none"),
            (None, "DistMult", "ComplEx"),
        )
    ),
]
RELATION_SETS: tuple[Mapping[str, RelationType], ...] = (
    {"works for": RelationType()},
    {},
    {
        "located in": RelationType(),
        "born on": RelationType(description="was born on this day"),
        "владеет": RelationType(),
    },
)

Relations = dict[tuple[str, tuple[int, int, str], tuple[int, int, str]], float]
Entities = dict[tuple[int, int, str], float]

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Case:
    """A text with its tasks and options."""

    text: str
    labels: Labels
    relations: Mapping[str, RelationType]
    options: Options


def predict(library: Any, case: Case) -> tuple[Entities, Relations]:
    """Return gliner's entities and relations for the text alone; relations of words with themselves aside."""
    options = case.options
    names = {relation.description or name: name for name, relation in case.relations.items()}
    [entities], [relations] = library.inference(
        [case.text],
        {label: description or label for label, description in case.labels.items()},
        relations=[*names],
        flat_ner=options.flat,
        threshold=options.threshold,
        relation_threshold=options.relation_threshold,
        multi_label=options.multi_label,
    )
    best: Relations = {}
    for relation in relations:
        head, tail = ((end["start"], end["end"], end["type"]) for end in (relation["head"], relation["tail"]))
        if head[:2] != tail[:2]:
            key = names[relation["relation"]], head, tail
            best[key] = max(relation["score"], best.get(key, 0.0))
    return {(e["start"], e["end"], e["label"]): e["score"] for e in entities}, best


def read(result: DocumentResult) -> tuple[Entities, Relations]:
    """Return a result as `predict` does."""
    assert result.error is None
    keys = [(entity.start, entity.end, entity.label) for entity in result.entities]
    relations = {(r.label, keys[r.head], keys[r.tail]): r.score for r in result.relations or ()}
    return dict(zip(keys, (entity.score for entity in result.entities), strict=True)), relations


def extract(engine: Engine, cases: Sequence[Case], budget: int = 1024) -> list[DocumentResult]:
    """Return the answers to all cases, each a job, through one micro-batcher."""
    plans = [cut(engine, case) for case in cases]
    with MicroBatcher(engine, budget) as batcher:
        futures = [batcher.submit(f"job{job}", plan.windows) for job, plan in enumerate(plans)]
        return [
            merge_windows(plan, Findings.collect(plan, future.result(WAIT_S)), 1)
            for plan, future in zip(plans, futures, strict=True)
        ]


def cut(engine: Engine, case: Case, rules: CutRules | None = None) -> Plan:
    """Cut a text as a worker does."""
    context = JobContext(ShardRef("job", 0), Tasks(case.labels, case.relations), case.options)
    return cut_document(Document(0, "0", case.text), context, engine, rules)


def choose_thresholds(library: Any, texts: Sequence[str]) -> tuple[float, float]:
    """Return thresholds that some entities and half of the relations between them pass."""
    case = Case("", LABEL_SETS[1], RELATION_SETS[2], Options(threshold=0.001, relation_threshold=0.999))
    entities = [score for text in texts for score in predict(library, replace(case, text=text))[0].values()]
    threshold = min(0.4, sorted(entities, reverse=True)[min(9 * len(texts), len(entities) - 1)] - 1e-4)
    options = Options(threshold=threshold, relation_threshold=0.0)
    pairs = [predict(library, replace(case, text=text, options=options))[1].values() for text in texts]
    scores = sorted(score for answers in pairs for score in answers)
    return threshold, scores[len(scores) // 2] - 1e-4


def make_cases(library: Any, texts: Sequence[str]) -> list[Case]:
    """Ask the texts for several labels and relations, with several thresholds."""
    threshold, least = choose_thresholds(library, texts[:3])
    cases = []
    for number, (text, repeat) in enumerate(product(texts, range(4 if EVERY else 1))):
        at = number + repeat
        more = {"flat": at % 3 != 0, "multi_label": at % 4 == 1, "relation_threshold": least * (1 - at % 2 / 9)}
        options = Options(threshold=threshold * (1 - at % 3 / 9), **more)
        cases.append(Case(text, LABEL_SETS[at % 4], RELATION_SETS[at % 3], options))
    return cases


@pytest.fixture(scope="module")
def load(checkpoint: Checkpoint) -> Callable[[Family], tuple[Engine, Any]]:
    """Return a loader of a model's engine and of the library's model that splits words like it."""

    def load_both(family: Family) -> tuple[Engine, Any]:
        source = resolve_model(str(checkpoint(family)), None, Path("unused"))
        engine = load_model(source, EngineOptions("cpu", "fp32", "torch"))
        library: Any = GLiNER.from_pretrained(str(source.folder), local_files_only=True)
        library.data_processor.words_splitter = lambda text: (
            (normalize("NFC", word), start, end) for word, start, end in zip(*engine.split(text), strict=True)
        )
        return engine, library

    return load_both


@pytest.mark.parametrize("family", FAMILIES + (REST if EVERY else []), ids=str)
def test_entities_and_relations_are_the_librarys(
    load: Callable[[Family], tuple[Engine, Any]], family: Family
) -> None:
    """Among rows that ask for other relations, other labels and none, with other thresholds."""
    engine, library = load(family)
    assert engine.spec.tasks == (Task.ENTITIES, Task.RELATIONS)
    texts = [text for text in SCRIPTS.values() if readable(engine, text)]
    cases = make_cases(library, texts if EVERY else texts[::3])
    expected = [predict(library, case) for case in cases]
    assert sum(len(relations) for _, relations in expected) > 20
    for case, wanted, result in zip(cases, expected, extract(engine, cases), strict=True):
        for theirs, ours in zip(wanted, read(result), strict=True):
            assert theirs == pytest.approx(ours, abs=TOLERANCE), case


def test_relations_of_a_long_text_are_those_of_its_windows(load: Callable[[Family], tuple[Engine, Any]]) -> None:
    """Each window has the library's relations, and the document's are some of them, in its words."""
    engine, library = load(FAMILIES[0])
    text = " ".join([text for text in SCRIPTS.values() if readable(engine, text)][:12])
    threshold, least = choose_thresholds(library, [*SCRIPTS.values()][:2])
    options = Options(threshold=threshold, relation_threshold=least)
    case = Case(text, LABEL_SETS[1], {"works for": RelationType(head=("person",))}, options)
    plan = cut(engine, case, CutRules(sentence_pass=False))
    assert len(plan.windows) > 2
    with MicroBatcher(engine, 1024) as batcher:
        outcomes = batcher.submit("job", plan.windows).result(WAIT_S)
    result = merge_windows(plan, Findings.collect(plan, outcomes), 1)
    _, relations = read(result)
    assert relations
    assert all(head[2] == "person" for _, head, _ in relations)
    assert plan.grid is not None
    by_window: Relations = {}
    for index in range(len(plan.windows)):
        position = plan.grid.locate_window(index)
        first, last = plan.grid.text.starts[position.first], plan.grid.text.ends[position.last - 1]
        _, answers = predict(library, replace(case, text=text[first:last]))
        for (label, head, tail), score in answers.items():
            key = label, move(head, first), move(tail, first)
            by_window[key] = max(score, by_window.get(key, 0.0))
    shared = {key: by_window[key] for key in relations.keys() & by_window.keys()}
    assert len(shared) > len(relations) / 2  # the others were of spans that lost an overlap to another window's
    assert shared == pytest.approx({key: relations[key] for key in shared}, abs=TOLERANCE)


def move(entity: tuple[int, int, str], offset: int) -> tuple[int, int, str]:
    """Return an entity of a part of a text that begins at `offset`."""
    return entity[0] + offset, entity[1] + offset, entity[2]


def test_other_runtimes_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """With the reason."""
    source = resolve_model(str(checkpoint(FAMILIES[0])), None, Path("unused"))
    with pytest.raises(ModelBrokenError, match="models for relations run on torch only"):
        load_model(source, EngineOptions("cpu", "fp32", "onnx", tmp_path))
