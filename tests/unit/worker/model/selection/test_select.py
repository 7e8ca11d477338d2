"""The choice among candidates by scripted times and scores. With real ones: tests/integration/model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.engine import SPEC
from worker.model.collate import Arrays, Layout
from worker.model.decode import Scores
from worker.model.description import ModelDescription
from worker.model.errors import ModelBrokenError
from worker.model.runtimes import Candidate, Runtime, WindowRuntime
from worker.model.selection import parity, select
from worker.model.selection.choice_cache import RuntimeRequest, read_choice
from worker.model.selection.select import CLOSE, Selector, allowed_candidates

REQUEST = RuntimeRequest("cpu", "auto", "auto", threads=2)
LAYOUT = Layout((1,), (2,), pad_id=0, pad_left=False, longest=512, pooling="first", span_width=12)
TORCH, ONNX, OPENVINO = Candidate("torch", "fp32"), Candidate("onnx", "fp32"), Candidate("openvino", "fp32")
WRONG = 0.5
"""Added to the scores of a candidate that does not agree."""


class ScriptedRuntime(Runtime):
    """A runtime that is never run."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate

    def run(self, arrays: Arrays) -> Scores:
        """Fail: times and scores are scripted."""
        raise AssertionError


class ScriptedSelector(Selector):
    """A selector without a model: every candidate takes these seconds, or raises, or gives wrong scores."""

    def __init__(self, script: dict[Candidate, Any], folder: Path | None = None) -> None:
        self._model = ModelDescription(SPEC, LAYOUT, False, r"\w+", "{}")
        self._request, self._folder = REQUEST, folder
        self._timing_batches, self._mixed_batches = [], []
        self.script = script
        self.built: list[Candidate] = []
        self.timed: list[Candidate] = []

    def _build_runtime(self, candidate: Candidate) -> Runtime:
        self.built.append(candidate)
        if isinstance(self.script[candidate], Exception):
            raise self.script[candidate]
        return ScriptedRuntime(candidate)

    def _check_padding(self, batches: Sequence[Any]) -> list[parity.Rows]:
        return [[np.array([0.5])]]

    def _time_runtime(self, runtime: Any) -> tuple[list[parity.Rows], float]:
        self.timed.append(runtime.candidate)
        seconds = self.script[runtime.candidate]
        wrong = WRONG if seconds == "wrong" else 0.0
        return [[np.array([0.5 + wrong])]], 1.0 if wrong else seconds

    def _score_batches(self, runtime: WindowRuntime, batches: Sequence[Any]) -> list[parity.Rows]:
        return []

    def select(self, *candidates: Candidate) -> Candidate:
        """Return the chosen one."""
        return self.choose(candidates).choice.candidate


SECONDS = st.floats(0.01, 100)


@settings(max_examples=25)
@given(script=st.fixed_dictionaries({TORCH: SECONDS, ONNX: SECONDS | st.just("wrong"), OPENVINO: SECONDS}))
def test_the_fastest_that_agrees_is_chosen(
    script: dict[Candidate, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In whatever order they are tried; one whose scores differ is not, however fast it is."""
    agreeing = {candidate: seconds for candidate, seconds in script.items() if seconds != "wrong"}
    selector = ScriptedSelector(script, tmp_path_factory.mktemp("cache"))
    assert agreeing[selector.select(*script)] == min(agreeing.values())


def test_a_candidate_that_cannot_run_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the reason of each."""
    selector = ScriptedSelector({TORCH: 2.0, ONNX: "wrong", OPENVINO: RuntimeError("no kernel")}, tmp_path)
    with caplog.at_level(logging.INFO):
        assert selector.select(TORCH, ONNX, OPENVINO) == TORCH
    [record] = [record for record in caplog.records if record.message == "runtime.tried"]
    reasons = [trial["refused"] for trial in vars(record)["trials"]]
    assert reasons == [None, "1 of 1 scores differ, by up to 0.500", "RuntimeError: no kernel"]


def test_where_none_agrees_the_model_is_refused(tmp_path: Path) -> None:
    """With all reasons in the message; no choice is cached."""
    selector = ScriptedSelector({TORCH: "wrong", ONNX: ValueError("inputs")}, tmp_path)
    with pytest.raises(ModelBrokenError, match=r"torch fp32: 1 of 1 scores differ.*onnx fp32: ValueError: inputs"):
        selector.select(TORCH, ONNX)
    assert read_choice(tmp_path, REQUEST) is None


def test_a_slow_candidate_is_timed_once(tmp_path: Path) -> None:
    """Only one that is close to the best is timed again, in turns with it."""
    slow = ScriptedSelector({TORCH: 1.0, ONNX: 2 * CLOSE}, tmp_path / "slow")
    assert slow.select(TORCH, ONNX) == TORCH
    close = ScriptedSelector({TORCH: 1.0, ONNX: 0.9 * CLOSE}, tmp_path / "close")
    assert close.select(TORCH, ONNX) == TORCH
    assert close.timed.count(ONNX) > slow.timed.count(ONNX)
    assert slow.timed.count(TORCH) < close.timed.count(TORCH)


def test_a_choice_is_cached_for_the_next_start(tmp_path: Path) -> None:
    """That one builds the chosen runtime alone, unless it cannot, or the settings no longer allow it."""
    assert ScriptedSelector({TORCH: 2.0, ONNX: 1.0}, tmp_path).select(TORCH, ONNX) == ONNX
    later = ScriptedSelector({TORCH: 2.0, ONNX: 1.0}, tmp_path)
    assert later.select(TORCH, ONNX) == ONNX
    assert (later.built, later.timed) == ([ONNX], [])

    broken = ScriptedSelector({TORCH: 2.0, ONNX: RuntimeError("gone")}, tmp_path)
    assert broken.select(TORCH, ONNX) == TORCH
    forbidden = ScriptedSelector({OPENVINO: 1.0, ONNX: 2.0}, tmp_path)
    assert forbidden.select(OPENVINO, ONNX) == OPENVINO


def test_without_a_cache_only_torch_is_tried(tmp_path: Path) -> None:
    """Other runtimes need an export; where only these are allowed, the message says what is missing."""
    assert ScriptedSelector({TORCH: 2.0, ONNX: 1.0}).select(TORCH, ONNX) == TORCH
    (tmp_path / "file").touch()
    assert ScriptedSelector({TORCH: 2.0, ONNX: 1.0}, tmp_path / "file").select(TORCH, ONNX) == TORCH
    with pytest.raises(ModelBrokenError, match="GLEANER_MODEL_CACHE"):
        ScriptedSelector({ONNX: 1.0, OPENVINO: 1.0}).select(ONNX, OPENVINO)


def test_torch_alone_is_not_timed() -> None:
    """There is nothing to choose from."""
    selector = ScriptedSelector({TORCH: 1.0})
    assert selector.select(TORCH) == TORCH
    assert selector.timed == []


def test_settings_narrow_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch in 32 bits, with which the others are compared, is first; `auto` never takes 8 bits."""
    every = allowed_candidates("cpu", "auto", "auto")
    assert every[0] == TORCH
    assert ONNX in every
    assert "int8" not in {candidate.precision for candidate in every}
    assert allowed_candidates("cpu", "onnx", "auto") == [ONNX]
    assert allowed_candidates("cpu", "openvino", "int8") == [Candidate("openvino", "int8")]
    assert {candidate.precision for candidate in allowed_candidates("cpu", "torch", "bf16")} == {"bf16"}
    with pytest.raises(ValueError, match="GLEANER_RUNTIME=cudagraphs"):
        allowed_candidates("cpu", "cudagraphs", "auto")
    monkeypatch.setattr(select, "is_installed", lambda _: False)
    with pytest.raises(ValueError, match=r"gleaner-ner\[onnx\]"):
        allowed_candidates("cpu", "onnx", "auto")


def test_on_a_gpu_small_passes_may_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 16 bits of the card's kind, or in 32."""
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    every = allowed_candidates("cuda", "auto", "auto")
    assert every[0] == Candidate("torch", "fp16")
    assert {(c.runtime, c.precision) for c in every} == {
        (runtime, precision) for runtime in ("torch", "cudagraphs") for precision in ("fp16", "fp32")
    }
    with pytest.raises(ValueError, match="GLEANER_PRECISION=int8"):
        allowed_candidates("cuda", "auto", "int8")
