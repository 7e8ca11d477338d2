"""Every kind of model that is accepted answers as gliner's `predict_entities` does, in every script and company.

A few of them by default; all, and more texts, with FAMILIES=all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from gliner import GLiNER

from jobs.schema import Labels, Options
from tests.conftest import Checkpoint
from tests.integration.test_parity import Case, extract, predict, scores
from tests.support.families import Backbone, Family
from tests.support.scripts import SCRIPTS
from worker import library
from worker.contract import Engine
from worker.engine import GlinerEngine
from worker.models import Resolved, resolve
from worker.remembered import Asked
from worker.runtimes import Candidate
from worker.selection import Selector

TOLERANCE = 1e-3
RUNTIMES = ("torch", "onnx", "openvino")
EVERY = os.environ.get("FAMILIES") == "all"
TOKENS = "UniEncoderToken"

pytestmark = pytest.mark.timeout(300)

BACKBONES = [
    Family(Backbone.DEBERTA, model_max_length=None),
    Family(Backbone.MDEBERTA, embed_ent_token=False, pooling="mean", model_max_length=None),
    Family(Backbone.BERT, lstm_layers=0, pooling="mean"),
    Family(Backbone.ELECTRA, pooling="last"),
    Family(Backbone.DISTILBERT, pooling="max"),
    Family(Backbone.XLMR, embed_ent_token=False, model_max_length=None),
    Family(Backbone.MODERNBERT, lstm_layers=2, pooling="mean"),
    Family(Backbone.MT5, model_max_length=None),
    Family(Backbone.DEBERTA, TOKENS),
    Family(Backbone.MT5, TOKENS, lstm_layers=2, pooling="last"),
]
SPAN_MODES = ("marker", "query", "mlp", "cat", "conv_conv", "conv_max", "conv_mean", "conv_sum", "conv_share")
HEADS = [
    *(Family(Backbone.DISTILBERT, span_mode=mode) for mode in SPAN_MODES),
    Family(config={"post_fusion_schema": "l2l-l2t-t2t"}),
]
REST = [
    Family(backbone, architecture, layers, pooling, marker)
    for backbone, architecture, layers, pooling, marker in product(
        Backbone, ("UniEncoderSpan", TOKENS), (0, 1, 2), ("first", "last", "mean", "max"), (True, False)
    )
]
LABEL_SETS: tuple[Labels, ...] = (
    {"person": None},
    {"person": None, "organization": None, "location": None, "date": None},
    {"город": None, "人物": None, "job title": "the work that somebody does for a living"},
    {f"label {i}": None for i in range(12)},
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in gliner's hands and in ours."""

    library: Any
    engine: Callable[[str], Engine]


@pytest.fixture
def loaded(checkpoint: Checkpoint, tmp_path: Path) -> Callable[[Family], Loaded]:
    """Load a checkpoint once for all runtimes."""

    def load(family: Family) -> Loaded:
        source = resolve(str(checkpoint(family)), None, Path("unused"))
        return Loaded(GLiNER.from_pretrained(str(source.folder), local_files_only=True), _engines(source, tmp_path))

    return load


def _engines(source: Resolved, cache: Path) -> Callable[[str], Engine]:
    loaded = library.load_gliner(source.folder, "cpu", source.files)
    graph = library.graph(loaded)
    described = library.described(loaded, source, graph.inputs)

    def engine(runtime: Any) -> Engine:
        selector = Selector(graph, described, Asked("cpu", runtime, "fp32", 2), cache)
        return GlinerEngine(selector.select([Candidate(runtime, "fp32")]), "cpu")

    return engine


def readable(engine: Engine, text: str) -> bool:
    """Return whether every word has tokens: behind one that has none, gliner's own answers are a word off."""
    return all(engine.encode(engine.split(text).words).counts)


def cases_of(library: Any, texts: Sequence[str]) -> list[Case]:
    """Ask each text for several label sets and ways to settle overlaps; thresholds leave it about four entities."""
    cases = []
    for number, labels in enumerate(LABEL_SETS):
        asked = [Case(text, labels, Options(threshold=0.001)) for text in texts[:3]]
        best = sorted((score for case in asked for score in predict(library, case).values()), reverse=True)
        threshold = best[: 4 * len(asked)][-1]
        for i, text in enumerate(texts):
            if EVERY or i % len(LABEL_SETS) == number:
                more = {"flat": i % 3 != 0, "multi_label": number == 1}
                cases.append(Case(text, labels, Options(threshold=threshold, **more)))
    return cases


@pytest.mark.parametrize("family", BACKBONES + HEADS + (REST if EVERY else []), ids=str)
def test_every_runtime_gives_the_librarys_own_answers(loaded: Callable[[Family], Loaded], family: Family) -> None:
    """Texts in all scripts beside each other have the spans that they have alone, and scores within 1e-3.

    A span whose score is that near the threshold may come or go.
    """
    model = loaded(family)
    torch = model.engine("torch")
    # gliner cuts words at combining marks, which Gleaner does not (docs/models.md): here both read the same words.
    model.library.data_processor.words_splitter = lambda text: zip(*torch.split(text), strict=True)
    cases = cases_of(model.library, [text for text in SCRIPTS.values() if readable(torch, text)])
    expected = [predict(model.library, case) for case in cases]
    assert sum(map(len, expected)) > 20

    for runtime in RUNTIMES:
        for case, wanted, result in zip(cases, expected, extract(model.engine(runtime), cases, 1024), strict=True):
            found = scores(result)
            for key in wanted.keys() | found.keys():
                least = case.options.threshold
                assert abs(wanted.get(key, least) - found.get(key, least)) < TOLERANCE, (runtime, case, key)
