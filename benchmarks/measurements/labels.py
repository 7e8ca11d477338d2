"""Speed with many labels: a bi-encoder, and a uni-encoder of the same size that needs many passes over a text.

Both have random weights, encoders of DistilBERT's size (6 layers of 768) and span heads of 512. The threshold lets
few spans through, as with a trained model.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.texts import make_texts
from jobs.schema import Document, Labels, Options
from jobs.tasks import Tasks
from tests.support.families import Backbone, Family, build
from worker.batching.batcher import MicroBatcher
from worker.model.engine import EngineOptions, load_model
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine, ShardRef
from worker.text.windows import JobContext, cut_document

FEW, MANY = 5, 1_000
THRESHOLD = 0.9999
UNI_DOCUMENTS = 1
"""Documents that the uni-encoder reads with `MANY` labels, in some twenty passes each."""
WAIT_S = 600.0


def measure_labels(documents: int, rounds: int) -> Mapping[tuple[str, int], float]:
    """Return documents per second by model and number of labels, medians of rounds that take turns."""
    texts = make_texts(documents, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        bi, uni = (
            _load_engine(architecture, Path(folder, architecture))
            for architecture in ("BiEncoderSpan", "UniEncoderSpan")
        )
    contests = {
        ("bi-encoder", FEW): (bi, texts),
        ("bi-encoder", MANY): (bi, texts),
        ("uni-encoder", FEW): (uni, texts),
        ("uni-encoder", MANY): (uni, texts[:UNI_DOCUMENTS]),
    }
    for (_, count), (engine, some) in contests.items():
        _measure_rate(engine, some[:1], count)
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in contests}
    for _ in range(rounds):
        for (model, count), (engine, some) in contests.items():
            rates[model, count].append(_measure_rate(engine, some, count))
    return {key: statistics.median(values) for key, values in rates.items()}


def _load_engine(architecture: str, folder: Path) -> Engine:
    family = Family(
        Backbone.DISTILBERT, architecture, lstm_layers=0, layers=6, hidden=768, max_words=384, max_width=12,
        config={"hidden_size": 512},
    )  # fmt: skip
    model = resolve_model(str(build(family, folder)), None, folder)
    return load_model(model, EngineOptions("cpu", "auto", "torch"))


def _measure_rate(engine: Engine, texts: Sequence[str], count: int) -> float:
    """Return the documents per second of one job of these texts."""
    labels: Labels = {f"label {number}": None for number in range(count)}
    context = JobContext(ShardRef("job", 0), Tasks(labels), Options(threshold=THRESHOLD))
    start = time.perf_counter()
    with MicroBatcher(engine, 1024) as batcher:
        futures = [
            batcher.submit("job", cut_document(Document(i, str(i), text), context, engine).windows)
            for i, text in enumerate(texts)
        ]
        for future in futures:
            future.result(WAIT_S)
    return len(texts) / (time.perf_counter() - start)
