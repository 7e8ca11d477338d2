"""The warm-up of an engine, and the budget that it measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.support.engine import SPEC
from tests.unit.worker.model.test_engine import MODEL, FirstWordRuntime, make_engine
from worker.model.engine import GlinerEngine
from worker.model.runtimes import Candidate
from worker.model.runtimes.warm_up import CPU_BUDGETS, CUDA_BUDGETS
from worker.model.selection.choice_cache import CachedChoice, Selection
from worker.protocols import OutOfMemory, Window


def test_the_warm_up_runs_the_largest_rows() -> None:
    """The most words, and the most tokens: no later text needs more memory."""
    runtime = FirstWordRuntime()
    budget = make_engine(runtime).warm_up()
    assert budget in CPU_BUDGETS
    assert max(runtime.sizes) >= SPEC.max_row_tokens
    with pytest.raises(OutOfMemory):
        make_engine(FirstWordRuntime(memory_tokens=100)).warm_up()


@pytest.mark.parametrize(
    ("memory", "budget"),
    [(SPEC.max_row_tokens, 510), (16_384, 16_384), (40_000, 32_768), (1 << 30, CUDA_BUDGETS[-1])],
)
def test_on_a_gpu_the_largest_batch_that_fits_is_the_budget(memory: int, budget: int) -> None:
    """At least one row of the longest; memory that the trials took is released."""
    runtime = FirstWordRuntime(memory_tokens=memory)
    assert make_engine(runtime, "cuda").warm_up() == budget
    assert runtime.released == 1


class TimedEngine(GlinerEngine):
    """An engine whose micro-batches take the seconds that a function of their tokens says."""

    seconds: Callable[[int], float]

    def _time_batch(self, windows: Sequence[Window]) -> float:
        return self.seconds(sum(window.row_tokens for window in windows))


@pytest.mark.parametrize(
    ("seconds", "budget"),
    [
        (lambda tokens: tokens / 1000, CPU_BUDGETS[0]),  # equal per token: other micro-batches wait less
        (lambda tokens: 0.1 + tokens / 1e6, CPU_BUDGETS[-1]),  # a pass costs, whatever is in it
        (lambda tokens: 0.1 + tokens / 1e6 if tokens < 700 else 9.0, CPU_BUDGETS[1]),  # falls out of the caches
    ],
)
def test_on_a_cpu_the_smallest_batch_of_nearly_the_best_speed_is_the_budget(
    seconds: Callable[[int], float], budget: int
) -> None:
    """By tokens per second."""
    engine = TimedEngine(Selection(FirstWordRuntime(), CachedChoice(Candidate("onnx", "fp32"), MODEL)), "cpu")
    engine.seconds = seconds
    assert engine.warm_up() == budget


def test_lanes_divide_the_largest_budget() -> None:
    """Together they have no more than one lane would."""
    runtime = FirstWordRuntime(lanes=4)
    engine = TimedEngine(Selection(runtime, CachedChoice(Candidate("onnx", "fp32"), MODEL)), "cpu")
    engine.seconds = lambda tokens: 0.1
    assert engine.warm_up() * 4 <= CPU_BUDGETS[-1]
