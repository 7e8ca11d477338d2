"""Models for relations answer as gliner's `inference` does for a text alone, in every script and company.

A few of them by default; more with FAMILIES=all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
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
    Family(Backbone.DISTILBERT, SPAN, config={"relations_layer": "gcn", "triples_layer": None}),
    Family(Backbone.DISTILBERT, SPAN, embed_ent_token=False, span_mode="conv_share", config=PAIRS),
    Family(Backbone.MODERNBERT, TOKEN, config={"relations_layer": "attention", "embed_rel_token": False}),
]
REST = [
    Family(backbone, architecture, config={"relations_layer": layer, "triples_layer": triples})
    for backbone, architecture, layer, triples in product(
        (Backbone.MDEBERTA, Backbone.XLMR, Backbone.MT5),
        (SPAN, TOKEN),
        ("dot", "mlp", "gat", "bilinear", "none"),
        (None, "DistMult", "ComplEx"),
    )
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


def between(scores: Sequence[float], count: int) -> float:
    """Return a threshold that about `count` of the scores pass, not near any of them."""
    ranked = sorted({1.0, 0.0, *scores}, reverse=True)
    gaps = [(above - below, (above + below) / 2) for above, below in pairwise(ranked[count // 2 : count + 8])]
    return max(gaps)[1]


def make_cases(library: Any, texts: Sequence[str]) -> list[Case]:
    """Ask the texts for several labels and relations, with thresholds that leave some of both."""
    cases = []
    for number, (labels, relations) in enumerate(product(LABEL_SETS, RELATION_SETS)):
        chosen = texts if EVERY else texts[number :: len(LABEL_SETS)]
        all_found = [
            predict(library, Case(text, labels, relations, Options(threshold=0.001))) for text in chosen[:2]
        ]
        threshold = between([score for found, _ in all_found for score in found.values()], 12)
        found = [
            score
            for text in chosen[:2]
            for score in predict(
                library, Case(text, labels, relations, Options(threshold=threshold, relation_threshold=0.0))
            )[1].values()
        ]
        least = between(found, len(found) // 2)
        for at, text in enumerate(chosen):
            more = {"flat": at % 3 != 0, "multi_label": number % 4 == 1, "relation_threshold": least}
            cases.append(Case(text, labels, relations, Options(threshold=threshold, **more)))
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
    cases = make_cases(library, [text for text in SCRIPTS.values() if readable(engine, text)])
    expected = [predict(library, case) for case in cases]
    assert sum(len(relations) for _, relations in expected) > 20
    for case, wanted, result in zip(cases, expected, extract(engine, cases), strict=True):
        for theirs, ours in zip(wanted, read(result), strict=True):
            assert theirs == pytest.approx(ours, abs=TOLERANCE), case
