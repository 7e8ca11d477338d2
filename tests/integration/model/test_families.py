"""Every kind of model that is accepted answers as gliner's `predict_entities` does, in every script and company.

A few of them by default; all, and more texts, with FAMILIES=all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import torch
from gliner import GLiNER
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.schema import Document, Labels, Options
from jobs.tasks import Tasks
from tests.conftest import Checkpoint
from tests.integration.model.test_parity import Case, extract, predict, scores
from tests.support.families import Backbone, Family
from tests.support.scripts import SCRIPTS
from tests.support.texts import FILLER
from worker.model import gliner_loader
from worker.model.collate import collate_windows
from worker.model.decode import read_rows
from worker.model.engine import EngineOptions, GlinerEngine, load_model
from worker.model.errors import ModelBrokenError
from worker.model.loading import load_gliner
from worker.model.runtimes import EXPORT_RUNTIMES, Candidate, Runtime, load_exported
from worker.model.runtimes.torch import TorchRuntime
from worker.model.selection import onnx_export, parity
from worker.model.selection.choice_cache import CachedChoice, RuntimeName, Selection
from worker.model.sources.resolve import Resolved, resolve_model
from worker.model.tokenizer import FastTokenizer
from worker.protocols import Engine, ShardRef, Window
from worker.text.windows import JobContext, cut_document

TOLERANCE = 1e-3
RUNTIMES: tuple[RuntimeName, ...] = ("torch", "onnx", "openvino")
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
HEADS = [Family(Backbone.DISTILBERT, span_mode=mode) for mode in ("marker", "conv_share")]
MORE_MODES = ("query", "mlp", "cat", "conv_conv", "conv_max", "conv_mean", "conv_sum")
REST = [
    *(Family(Backbone.DISTILBERT, span_mode=mode) for mode in MORE_MODES),
    Family(config={"post_fusion_schema": "l2l-l2t-t2t"}),
    *(
        Family(backbone, architecture, layers, pooling, marker)
        for backbone, architecture, layers, pooling, marker in product(
            Backbone, ("UniEncoderSpan", TOKENS), (0, 1, 2), ("first", "last", "mean", "max"), (True, False)
        )
    ),
]
LABEL_SETS: tuple[Labels, ...] = (
    {"person": None},
    {"person": None, "organization": None, "location": None, "date": None},
    {"город": None, "人物": None, "job title": "the work that somebody does for a living"},
    {f"label {i}": None for i in range(12)},
)


PADDING_READERS = [
    Family(Backbone.DISTILBERT, span_mode="markerV1"),
    Family(Backbone.DISTILBERT, span_mode="markerV2"),
    Family(Backbone.DISTILBERT, config={"span_encoder_config": {"model_type": "rnn"}}),
    Family(Backbone.DISTILBERT, config={"span_encoder_config": {"model_type": "deberta-v2"}}),
    Family(Backbone.DISTILBERT, config={"fuse_layers": True}),
    Family(Backbone.DISTILBERT, TOKENS, config={"fuse_layers": True}),
]


def engines(source: Resolved, folder: Path) -> dict[str, Engine]:
    """Return a model on every runtime, from one export."""
    loaded = load_gliner(source.folder, "cpu", source.files)
    graph = gliner_loader.build_graph(loaded)
    described = gliner_loader.describe_model(loaded, source, graph.inputs)
    tokenizer = FastTokenizer(described.spec, described.tokenizer_json, described.word_pattern)
    example = collate_windows(parity.build_mixed_batches(tokenizer)[0], described.layout)
    path = onnx_export.export_graph(graph, example, folder)
    runtimes: dict[str, Runtime] = {
        name: load_exported(Candidate(name, "fp32"), path, 2) for name in EXPORT_RUNTIMES
    }
    runtimes["torch"] = TorchRuntime(graph, "cpu", torch.float32)
    return {
        name: GlinerEngine(Selection(runtime, CachedChoice(Candidate(name, "fp32"), described)), "cpu")
        for name, runtime in runtimes.items()
    }


def score(engine: Engine, windows: Sequence[Window], tagged: bool) -> list[NDArray[Any]]:
    """Return all scores of each window, in a micro-batch of all of them."""
    parts = engine.forward(engine.collate(windows))
    return read_rows(windows, parts, partial(parity.row_scores, tagged=tagged))


def readable(engine: Engine, text: str) -> bool:
    """Return whether every word has tokens: behind one that has none, gliner's own answers are a word off."""
    return all(engine.encode(engine.split(text).words).counts)


def cases_of(library: Any, texts: Sequence[str]) -> list[Case]:
    """Ask each text for several label sets and ways to settle overlaps; thresholds leave it about four entities."""
    cases = []
    for number, labels in enumerate(LABEL_SETS):
        samples = [Case(text, labels, Options(threshold=0.001)) for text in texts[:2]]
        best = sorted((score for case in samples for score in predict(library, case).values()), reverse=True)
        threshold = best[: 4 * len(samples)][-1]
        for i, text in enumerate(texts):
            if EVERY or i % len(LABEL_SETS) == number:
                more = {"flat": i % 3 != 0, "multi_label": number == 1}
                cases.append(Case(text, labels, Options(threshold=threshold, **more)))
    return cases


@pytest.mark.parametrize("family", BACKBONES + HEADS + (REST if EVERY else []), ids=str)
def test_every_runtime_gives_the_librarys_own_answers(
    checkpoint: Checkpoint, tmp_path: Path, family: Family
) -> None:
    """Texts in all scripts in one batch have their spans of a single run, and scores within 1e-3.

    A span whose score is that near the threshold may come or go.
    """
    source = resolve_model(str(checkpoint(family)), None, Path("unused"))
    loaded = engines(source, tmp_path)
    reader = loaded["torch"]
    theirs = GLiNER.from_pretrained(str(source.folder), local_files_only=True)
    # gliner splits words at combining marks, Gleaner does not (docs/how-to/models.md): here both read the same.
    theirs.data_processor.words_splitter = lambda text: (
        (normalize("NFC", word), start, end) for word, start, end in zip(*reader.split(text), strict=True)
    )
    cases = cases_of(theirs, [text for text in SCRIPTS.values() if readable(reader, text)])
    expected = [predict(theirs, case) for case in cases]
    assert sum(map(len, expected)) > 20

    for runtime, engine in loaded.items():
        for case, wanted, result in zip(cases, expected, extract(engine, cases, 1024), strict=True):
            ours = scores(result)
            for key in wanted.keys() | ours.keys():
                least = case.options.threshold
                assert abs(wanted.get(key, least) - ours.get(key, least)) < TOLERANCE, (runtime, case, key)


@pytest.mark.parametrize("family", PADDING_READERS, ids=str)
def test_a_head_that_reads_padding_is_refused(checkpoint: Checkpoint, tmp_path: Path, family: Family) -> None:
    """A model whose scores depend on a text's neighbours is refused when it is loaded, by every runtime."""
    source = resolve_model(str(checkpoint(family)), None, Path("unused"))

    for runtime in ("torch", "auto") if family.span_mode == "markerV2" or EVERY else ("torch",):
        with pytest.raises(ModelBrokenError, match=r"next to a longer text than alone .* reads padding"):
            load_model(source, EngineOptions("cpu", "fp32", runtime, tmp_path))


def test_spans_picked_by_one_threshold_for_all_are_refused(checkpoint: Checkpoint) -> None:
    """A token model that also scores spans is refused by its configuration, before anything is loaded."""
    folder = checkpoint(Family(architecture=TOKENS, config={"represent_spans": True}))

    with pytest.raises(ModelBrokenError, match="represent_spans says"):
        resolve_model(str(folder), None, Path("unused"))


@pytest.fixture(scope="module", params=["span", "token"])
def company(
    request: pytest.FixtureRequest, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bool, list[Engine]]:
    """Load two models with an LSTM by every runtime's name, as a worker does; say whether they tag words."""
    tagged = request.param == "token"
    family = Family(Backbone.MODERNBERT, TOKENS) if tagged else Family(lstm_layers=2)
    source, cache = resolve_model(str(checkpoint(family)), None, Path("unused")), tmp_path_factory.mktemp("company")
    return tagged, [load_model(source, EngineOptions("cpu", "fp32", runtime, cache)) for runtime in RUNTIMES]


@settings(max_examples=200 if EVERY else 5)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([*SCRIPTS.values(), *FILLER]), min_size=1, max_size=3),
            st.sampled_from(LABEL_SETS),
        ),
        min_size=2,
        max_size=4,
    )
)
def test_company_changes_nothing(
    company: tuple[bool, list[Engine]], documents: list[tuple[list[str], Labels]]
) -> None:
    """A text scores the same alone and among texts of any length, script and labels, within 1e-4."""
    tagged, engines = company
    for engine in engines:
        windows = [
            cut_document(
                Document(i, str(i), " ".join(parts)), JobContext(ShardRef("job", 0), Tasks(labels)), engine
            ).windows[0]
            for i, (parts, labels) in enumerate(documents)
        ]
        together = score(engine, windows, tagged)
        for window, beside in zip(windows, together, strict=True):
            [alone] = score(engine, [window], tagged)
            assert np.abs(alone - beside).max() < 1e-4, engine.spec.runtime
