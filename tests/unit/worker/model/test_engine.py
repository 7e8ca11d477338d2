"""The engine around a runtime, here one that scores by the words themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jobs.schema import Document
from jobs.tasks import Tasks
from tests.conftest import ROOT
from tests.support.engine import SPEC, WORD
from worker.model import engine as engines
from worker.model.collate import Arrays, Layout
from worker.model.decode import Scores
from worker.model.description import ModelDescription
from worker.model.engine import GlinerEngine
from worker.model.runtimes import Candidate, Runtime
from worker.model.selection.choice_cache import CachedChoice, Selection
from worker.protocols import OutOfMemory, ShardRef, Window
from worker.text.windows import JobContext, cut_document

TOKENIZER_JSON = (ROOT / "models" / "gleaner-small" / "tokenizer.json").read_text(encoding="utf-8")
LAYOUT = Layout((1,), (2,), pad_id=0, pad_left=False, longest=512, pooling="first", span_width=12)
MODEL = ModelDescription(SPEC, LAYOUT, False, WORD, TOKENIZER_JSON)


class FirstWordRuntime(Runtime):
    """Finds the first word of each row under the first label, unless a batch has too many tokens."""

    def __init__(self, lanes: int = 1, memory_tokens: int = 1 << 40) -> None:
        self.lanes = lanes
        self.memory_tokens = memory_tokens
        self.sizes: list[int] = []
        self.released = 0

    def run(self, arrays: Arrays) -> Scores:
        """Return logits of (row, first word, width, label)."""
        rows, tokens = arrays["input_ids"].shape
        self.sizes.append(rows * tokens)
        if rows * tokens > self.memory_tokens:
            raise OutOfMemory
        slots = arrays["span_idx"].shape[1] // LAYOUT.span_width
        logits = np.full((rows, slots, LAYOUT.span_width, 2), -9.0, np.float32)
        logits[:, 0, 0, 0] = 9
        return {"logits": logits}

    def release_memory(self) -> None:
        """Count the calls."""
        self.released += 1


def make_engine(runtime: Runtime, device: str = "cpu", merge_adjacent: bool = False) -> GlinerEngine:
    """Return an engine on this runtime."""
    choice = CachedChoice(Candidate("onnx", "fp32"), MODEL)
    return GlinerEngine(Selection(runtime, choice), device, merge_adjacent)


def cut(text: str, engine: GlinerEngine) -> Sequence[Window]:
    """Return a text's windows."""
    context = JobContext(ShardRef("job", 0), Tasks({"person": None, "place": None}))
    return cut_document(Document(0, "0", text), context, engine).windows


def test_windows_become_spans() -> None:
    """Through arrays and scores, in the order of the windows."""
    engine = make_engine(FirstWordRuntime())
    windows = [*cut("Ada went home.", engine), *cut("Bob", engine)]
    batch = engine.collate(windows)
    spans = engine.decode(batch, engine.forward(batch))
    assert [[(span.start, span.end, span.label) for span in of_window] for of_window in spans] == [[(0, 1, 0)]] * 2


def test_the_spec_names_the_runtime() -> None:
    """And the settings; lanes and express are the runtime's."""
    runtime = FirstWordRuntime(lanes=2)
    engine = make_engine(runtime, merge_adjacent=True)
    assert (engine.spec.runtime, engine.spec.precision, engine.spec.merge_adjacent) == ("onnx", "fp32", True)
    assert (engine.lanes, engine.express_tokens) == (2, 0)
    engine.release_memory()
    assert runtime.released == 1


def test_without_a_driver_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that the settings demand must be there."""
    monkeypatch.setattr(engines, "_has_driver", lambda: False)
    assert engines._pick_device("auto") == engines._pick_device("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="GLEANER_DEVICE=cuda"):
        engines._pick_device("cuda")
    monkeypatch.setattr(engines, "_has_driver", lambda: True)
    assert engines._pick_device("auto") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert engines._pick_device("auto") == engines._pick_device("cuda") == "cuda"
    assert engines._pick_device("cpu") == "cpu"


def test_a_shared_card_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among as many workers as the settings say; its name is part of the cache's key."""
    shares: list[float] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "H200")
    assert engines._reserve_card(1) == engines._reserve_card(3) == "H200"
    assert shares == [pytest.approx(0.3)]


def test_a_choice_of_an_earlier_start_needs_no_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_model` selects only if the cache has none."""
    from worker.model.engine import EngineOptions, load_model
    from worker.model.sources.resolve import Resolved

    selection = Selection(FirstWordRuntime(), CachedChoice(Candidate("onnx", "fp32"), MODEL))
    monkeypatch.setattr("worker.model.selection.choice_cache.load_choice", lambda *_: selection)
    options = EngineOptions(device="cpu", cache_dir=tmp_path, merge_adjacent=True)
    engine = load_model(Resolved(tmp_path, "revision"), options)
    assert engine.spec.merge_adjacent
    assert engine.spec.runtime == "onnx"
