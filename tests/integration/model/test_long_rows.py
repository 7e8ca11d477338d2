"""Documents that would be rows of any length, on every family of models that states no limit."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from random import Random

import pytest

from gleaner.client import Client
from jobs.schema import Document, DocumentErrorCode, DocumentResult, Labels, Options
from jobs.tasks import Tasks
from tests.conftest import Checkpoint
from tests.support.families import Backbone, Family
from tests.support.processes.local_stack import running_stack
from tests.support.scripts import SCRIPTS
from worker.batching.batcher import MicroBatcher
from worker.model.engine import EngineOptions, GlinerEngine, load_model
from worker.model.errors import ModelBrokenError
from worker.model.sources.resolve import Resolved
from worker.protocols import ShardRef
from worker.text.merging import Findings, merge_windows
from worker.text.windows import JobContext, Plan, cut_document

NO_LIMIT = [
    *(Family(backbone, model_max_length=None) for backbone in Backbone),
    Family(Backbone.MODERNBERT, model_max_length=8192),
    Family(Backbone.XLMR, model_max_length=None, lstm_layers=0),
    Family(Backbone.DEBERTA, architecture="UniEncoderToken", model_max_length=None),
    Family(Backbone.MT5, architecture="UniEncoderToken", model_max_length=None),
]
BOUND = 512
"""Tokens of a row of all of these: by 48 words, or by the positions of their encoders."""
FEW: Labels = {"person": None, "organization": None, "location": None}
SENTENCE = "Maria Keller moved to Oslo."
RANDOM = Random(3)
BASE64 = base64.b64encode(RANDOM.randbytes(30_000)).decode()
WORD = BASE64.replace("+", "a").replace("/", "b").replace("=", "c")
HAN = [letter for letter in SCRIPTS["han"] if letter.isalpha()]
TEXTS: dict[str, tuple[str, Labels]] = {
    "a word of 40 kB": (f"{SENTENCE} {WORD}", FEW),
    "an attachment in lines": ("\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)), FEW),
    "Chinese without punctuation": ("".join(RANDOM.choices(HAN, k=6000)), FEW),
    "100 labels of 128 characters": (
        SENTENCE,
        {"".join(RANDOM.choices("abcdefghij klmnop", k=128)): None for _ in range(100)},
    ),
}
MOST_S = 2 * 5.0
"""Processor seconds on two cores, which other processes do not change as they do the time that passes."""
MOST_BYTES = 300 * 2**20


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def _plan(engine: GlinerEngine, text: str, labels: Labels, options: Options | None = None) -> Plan:
    return cut_document(
        Document(0, "0", text), JobContext(ShardRef("job", 0), Tasks(labels), options or Options()), engine
    )


def _run(engine: GlinerEngine, text: str, labels: Labels) -> tuple[Plan, DocumentResult]:
    plan = _plan(engine, text, labels)
    with MicroBatcher(engine, 512) as batcher:
        outcomes = batcher.submit("job", plan.windows).result(timeout=60)
    return plan, merge_windows(plan, Findings.collect(plan, outcomes), 1)


@pytest.mark.parametrize("family", NO_LIMIT, ids=str)
def test_no_document_is_a_row_without_end(checkpoint: Checkpoint, family: Family) -> None:
    """Any words and labels of a document take seconds and little memory."""
    engine = load_model(Resolved(checkpoint(family), "x"), EngineOptions("cpu", "fp32", "torch"))
    assert engine.spec.max_row_tokens == BOUND
    _run(engine, SENTENCE * 30, FEW)

    for name, (text, labels) in TEXTS.items():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
        before, started = _memory("VmRSS"), time.process_time()
        plan, result = _run(engine, text, labels)
        seconds, taken = time.process_time() - started, _memory("VmHWM") - before

        assert result.error is None, name
        assert max(window.row_tokens for window in plan.windows) <= BOUND, name
        assert seconds < MOST_S, name
        assert taken < MOST_BYTES, name
        assert plan.grid is not None
        giant = (
            max(plan.grid.text.tokens_per_word) > BOUND
        )  # to BERT's tokenizers a word of over 100 letters is [UNK]
        assert result.truncated == giant, name
        assert giant == any("longer than the model's window" in warning for warning in result.warnings), name


def test_a_row_at_the_bound_runs_in_company(checkpoint: Checkpoint) -> None:
    """XLM-R counts positions from 2: of 514 it has, 512 are for tokens, and a full row is no error."""
    engine = load_model(
        Resolved(checkpoint(Family(Backbone.XLMR, model_max_length=None)), "x"),
        EngineOptions("cpu", "fp32", "torch"),
    )
    [full] = _plan(engine, WORD, FEW).windows
    [short] = _plan(engine, SENTENCE, FEW).windows
    assert full.row_tokens == 512

    batch = engine.collate([full, short])
    assert batch.arrays["input_ids"].shape == (2, 512)
    assert (
        engine.decode(batch, engine.forward(batch))[1]
        == engine.decode(alone := engine.collate([short]), engine.forward(alone))[0]
    )


def test_a_refusal_says_how_much_fits(checkpoint: Checkpoint) -> None:
    """`long_text: reject` and a label that is too long name the row's real size."""
    engine = load_model(
        Resolved(checkpoint(Family(model_max_length=None)), "x"), EngineOptions("cpu", "fp32", "torch")
    )

    long = _plan(engine, WORD, FEW, Options(long_text="reject")).error
    assert long is not None
    assert long.code is DocumentErrorCode.INPUT_TOO_LONG
    assert int(long.detail.rpartition("(")[2].split()[0]) < BOUND

    label = _plan(engine, SENTENCE, {BASE64[:4000]: None}).error
    assert label is not None
    assert label.detail.endswith(f"the model reads {BOUND} at once.")


def test_the_operator_sets_the_bound(checkpoint: Checkpoint) -> None:
    """GLEANER_MAX_ROW_TOKENS is the bound where the model has none, and warm-up runs rows of that size."""
    folder = checkpoint(Family(model_max_length=None))
    engine = load_model(Resolved(folder, "x"), EngineOptions("cpu", "fp32", "torch", max_row_tokens=200))
    assert engine.spec.max_row_tokens == 200
    assert max(window.row_tokens for window in _plan(engine, WORD, FEW).windows) == 200
    assert (
        load_model(
            Resolved(folder, "x"), EngineOptions("cpu", "fp32", "torch", max_row_tokens=2000)
        ).spec.max_row_tokens
        == 2000
    )
    limited = checkpoint(Family(model_max_length=512))
    assert (
        load_model(
            Resolved(limited, "x"), EngineOptions("cpu", "fp32", "torch", max_row_tokens=2000)
        ).spec.max_row_tokens
        == 512
    )


def test_a_limit_that_leaves_no_room_is_refused(checkpoint: Checkpoint) -> None:
    """A tokenizer that says 4 is refused when the model is loaded, not text by text."""
    with pytest.raises(ModelBrokenError, match="model_max_length"):
        load_model(Resolved(checkpoint(Family(model_max_length=4)), "x"), EngineOptions("cpu", "fp32", "torch"))


def test_warm_up_runs_the_longest_row(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up fails where a full row does not fit the machine; a token model's row has the labels of its budget."""
    engine = load_model(
        Resolved(checkpoint(Family(architecture="UniEncoderToken", model_max_length=None)), "x"),
        EngineOptions("cpu", "fp32", "torch"),
    )  # fmt: skip
    shapes, labels = [], []
    collate = engine.collate

    def noted(windows):  # type: ignore[no-untyped-def]
        labels.append(max(len(window.prompts) for window in windows))
        batch = collate(windows)
        shapes.append(batch.arrays["input_ids"].shape)
        return batch

    monkeypatch.setattr(engine, "collate", noted)
    engine.warm_up()

    assert 0.9 * BOUND <= max(width for _, width in shapes) <= BOUND
    assert max(labels) == engine.spec.labels_included > 1


def test_no_document_ends_a_worker(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Through a whole stack whose model states no limit: every document is answered, and nobody was restarted."""
    environment = {
        "GLEANER_MODEL_SOURCE": str(checkpoint(Family(Backbone.MT5, model_max_length=None))),
        "GLEANER_RUNTIME": "torch",
        "GLEANER_PRECISION": "fp32",
        "GLEANER_WORD_SPLITTER": "char",
        "GLEANER_HANG_TIMEOUT_S": "30",
    }
    with running_stack(tmp_path / "home", environment=environment) as stack:
        before = stack.descendants()
        documents = [
            {"text": text, "labels": labels, "options": {"threshold": 0.9}} for text, labels in TEXTS.values()
        ]
        with Client(stack.url, stack.key) as client:
            results = client.extract(documents, FEW)
        after = stack.descendants()

    assert {result.attempts for result in results} == {1}
    assert [result.truncated for result in results] == [True, False, False, False]  # the word of 40 kB alone
    assert after == before
