"""Bi-encoders answer as gliner's `predict_entities` does, with any labels in company, and read each label once.

More kinds with FAMILIES=all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from gliner import GLiNER
from prometheus_client import CollectorRegistry

from jobs.observability.metrics import WorkerMetrics
from jobs.schema import Labels, Options
from tests.conftest import Checkpoint
from tests.integration.model.test_parity import WAIT_S, Case, extract, plan_of, predict, scores
from tests.support.families import Backbone, Family
from tests.support.scripts import SCRIPTS
from tests.support.texts import FILLER
from worker.batching.batcher import MicroBatcher
from worker.model.engine import EngineOptions, load_model
from worker.model.errors import ModelBrokenError
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine
from worker.telemetry import MetricsObserver

TOLERANCE = 1e-3
EVERY = os.environ.get("FAMILIES") == "all"
SPANS, TOKENS = "BiEncoderSpan", "BiEncoderToken"
MANY: Labels = {f"label number {number}": None for number in range(1500)}
LABEL_SETS: tuple[Labels, ...] = (
    {"person": None},
    {"person": None, "organization": None, "location": None, "date": None},
    {"город": None, "人物": None, "job title": "the work that somebody does for a living"},
    {f"label {number}": None for number in range(12)},
)
FUSING = {"post_fusion_schema": "l2l-l2t-t2t"}
KINDS = [
    Family(Backbone.DISTILBERT, SPANS),
    Family(Backbone.DISTILBERT, TOKENS, model_max_length=None),
    Family(Backbone.BERT, SPANS, config=FUSING),
]
MORE = [
    Family(Backbone.MODERNBERT, SPANS, pooling="mean"),
    Family(Backbone.MT5, TOKENS, pooling="last"),
    Family(Backbone.DISTILBERT, TOKENS, config={"post_fusion_schema": "t2l-l2t"}),
    Family(Backbone.DISTILBERT, SPANS, span_mode="query"),
    Family(Backbone.DISTILBERT, SPANS, span_mode="conv_share"),
]

pytestmark = pytest.mark.timeout(300)


def load(folder: Path) -> Engine:
    """Load a model as a worker does, with the library's precision."""
    return load_model(resolve_model(str(folder), None, Path("unused")), EngineOptions("cpu", "fp32", "torch"))


def cases_of(library: Any, texts: Sequence[str]) -> list[Case]:
    """Ask every text for one of the label sets, at a threshold that leaves some entities of a text."""
    cases = []
    for number, labels in enumerate(LABEL_SETS):
        best = sorted(predict(library, Case(texts[0], labels, Options(threshold=0.001))).values(), reverse=True)
        options = Options(threshold=best[:5][-1], flat=number != 2, multi_label=number == 1)
        cases += [Case(text, labels, options) for text in texts[number :: len(LABEL_SETS)]]
    return cases


@pytest.mark.parametrize("family", KINDS + (MORE if EVERY else []), ids=str)
def test_answers_are_the_librarys_own_in_any_company(checkpoint: Checkpoint, family: Family) -> None:
    """Texts in many scripts with different labels, in micro-batches together; a long text in windows as well."""
    engine = load(checkpoint(family))
    library = GLiNER.from_pretrained(str(checkpoint(family)), local_files_only=True)
    # gliner splits words at combining marks, Gleaner does not (docs/how-to/models.md): here both read the same.
    library.data_processor.words_splitter = lambda text: (
        (normalize("NFC", word), start, end) for word, start, end in zip(*engine.split(text), strict=True)
    )
    texts = [text for text in SCRIPTS.values() if all(engine.encode(engine.split(text).words).counts)]
    cases = cases_of(library, texts)
    expected = [predict(library, case) for case in cases]
    assert sum(map(len, expected)) > 10

    for case, wanted, result in zip(cases, expected, extract(engine, cases, 1024), strict=True):
        ours, least = scores(result), case.options.threshold
        assert least is not None
        for key in wanted.keys() | ours.keys():
            assert abs(wanted.get(key, least) - ours.get(key, least)) < TOLERANCE, (case, key)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Engine:
    """Load a span model."""
    return load(checkpoint(KINDS[0]))


def test_the_limits_are_those_of_the_model(engine: Engine) -> None:
    """Its rows have no prompt, its label encoder reads 512 tokens, two of them special."""
    assert (engine.spec.max_labels, engine.spec.max_label_tokens) == (2000, 510)
    [window] = plan_of(engine, Case("Ada met Bob.", MANY, Options())).windows
    assert (len(window.prompts), len(window.tokens_per_word)) == (1500, len(window.words))
    assert window.cost > window.row_tokens  # words times labels are scores, which take memory


def test_labels_are_read_once_for_all_jobs(engine: Engine) -> None:
    """Two jobs with the same labels, two documents each: the metric counts every vector once as computed."""
    metrics = WorkerMetrics(CollectorRegistry())
    labels: Labels = {f"read once {number}": None for number in range(300)}
    for job in ("first", "second"):
        plans = [
            plan_of(engine, Case(f"{text} {job}", labels, Options())) for text in ("Ada met Bob.", "Eve left.")
        ]
        with MicroBatcher(engine, 64, observer=MetricsObserver(metrics, lambda: None)) as batcher:
            for future in [batcher.submit(job, plan.windows) for plan in plans]:
                future.result(WAIT_S)
    counts = {source: metrics.label_vectors.labels(source)._value.get() for source in ("computed", "reused")}
    assert counts["computed"] == 300
    assert counts["reused"] >= 300


def test_a_long_text_with_many_labels_is_read_in_windows(engine: Engine) -> None:
    """Each window asks for all labels at once; the entity of the first window has its score of the text alone."""
    options = Options(threshold=0.9, flat=False)
    [alone] = extract(engine, [Case("Ada met Bob in Oslo.", MANY, options)])
    [long] = extract(engine, [Case(f"Ada met Bob in Oslo. {FILLER * 3}", MANY, options)])
    assert alone.windows == 1 < long.windows
    assert alone.entities
    assert {entity.label for entity in long.entities} <= MANY.keys()


def test_equal_descriptions_get_equal_scores(checkpoint: Checkpoint) -> None:
    """Gliner refuses them. Here each label has the score of the description alone, also where labels are fused."""
    for family in (KINDS[0], KINDS[2]):
        loaded = load(checkpoint(family))
        options = Options(threshold=0.0, multi_label=True, flat=False)
        twice: Labels = {"a": "a human being", "b": "a human being", "city": None}
        once: Labels = {"a": "a human being", "city": None}
        [both], [single] = (extract(loaded, [Case("Ada met Bob.", labels, options)]) for labels in (twice, once))
        ours, expected = scores(both), scores(single)
        for (start, end, label), score in expected.items():
            assert ours[start, end, label] == pytest.approx(score, abs=1e-5)
            if label == "a":
                assert ours[start, end, "b"] == ours[start, end, "a"]


def test_labels_that_cannot_be_read_are_reported(engine: Engine) -> None:
    """Blank ones and special tokens of the label encoder are ignored, the end of long ones is."""
    long = "label " * 600
    plan = plan_of(engine, Case("Ada met Bob.", {"[SEP]": None, "ok": None, "x": long}, Options()))
    assert plan.windows[0].prompts == ("ok", long)
    assert plan.warnings == (
        "A label contains a special token of the model, which was removed from it.",
        "Label 1: the model cannot read it, so it was ignored.",
        "Label 3: only the first 510 tokens were read.",
    )


def test_a_model_without_its_label_encoders_files_says_what_to_add(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Published models name the hub's repository of the label encoder; nothing is fetched while they are loaded."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(KINDS[0]), folder)
    shutil.rmtree(folder / "labels_tokenizer")
    with pytest.raises(ModelBrokenError, match=r"no labels_tokenizer/tokenizer_config.json.*owner/labels"):
        resolve_model(str(folder), None, tmp_path / "cache")


def test_runners_up_are_the_next_best_labels(engine: Engine) -> None:
    """Of all labels of the document, however many."""
    [result] = extract(engine, [Case("Ada met Bob.", MANY, Options(threshold=0.5, explain=True))])
    assert result.entities
    assert all(entity.explain and len(entity.explain.runners_up) == 3 for entity in result.entities)
