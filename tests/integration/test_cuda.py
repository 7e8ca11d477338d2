"""The forward pass on a CUDA device, against gliner's own answers on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measurements.medium import medium_folder
from jobs.schema import Options
from tests.integration.model.test_parity import Case
from tests.integration.model.test_runtimes import NEAR, SHIPPED, cases, differing, shipped
from tests.support.texts import LABEL_SETS, passage
from tests.unit.worker.model.test_graph import batches
from worker.model import gliner_loader
from worker.model.collate import Arrays
from worker.model.engine import EngineOptions, load_model
from worker.model.graph import MarkerGraph
from worker.model.runtimes.cudagraphs import CudaGraphsRuntime
from worker.model.runtimes.graph_cache import RECORD_AFTER
from worker.model.runtimes.torch import TorchRuntime
from worker.model.runtimes.warm_up import CUDA_BUDGETS
from worker.model.sources.resolve import Resolved
from worker.model.static_graph import StaticGraph
from worker.protocols import OutOfMemory

__all__ = ["cases", "shipped"]  # fixtures

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="torch sees no CUDA device, and nothing stands in for one: CUDA's code stays untested in this run",
    ),
    pytest.mark.timeout(300),
]
LONGEST = 512
RuntimeFactory = Callable[[torch.dtype], tuple[CudaGraphsRuntime, TorchRuntime]]


@pytest.fixture(scope="module", params=["shipped", "recurrent"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT without, and DeBERTa with a recurrent layer over the words."""
    if request.param == "shipped":
        return SHIPPED
    return medium_folder(tmp_path_factory.mktemp("models") / "medium", layers=2)


@pytest.fixture(scope="module")
def micro_batches(folder: Path) -> list[Arrays]:
    """Micro-batches of several shapes."""
    return batches(gliner_loader.load_gliner(folder, "cpu"), folder)


@pytest.fixture(scope="module")
def runtimes(folder: Path) -> RuntimeFactory:
    """Return a factory of a CUDA-graphs runtime and its reference, plain torch in 32 bits."""
    core = gliner_loader.load_gliner(folder, "cuda").model
    plain = TorchRuntime(MarkerGraph(core).eval(), "cuda", torch.float32)
    return lambda dtype: (CudaGraphsRuntime(StaticGraph(core, dtype).eval(), dtype, LONGEST), plain)


def max_difference(scores: Any, expected: Any, arrays: Arrays) -> float:
    """Return the largest difference between the scores of the texts' spans."""
    return max(
        float(np.abs(scores["logits"][row, at, : length - at] - expected["logits"][row, at, : length - at]).max())
        for row, [length] in enumerate(arrays["text_lengths"])
        for at in range(length)
    )


@pytest.mark.parametrize("runtime", ["torch", "cudagraphs"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_answers_are_those_of_the_library(
    shipped: Resolved, cases: list[tuple[Case, dict[Any, float]]], runtime: Any, precision: Any
) -> None:
    """Six label sets in a micro-batch, again and again, so that recorded passes answer, too."""
    engine = load_model(shipped, EngineOptions("cuda", precision, runtime))

    assert (engine.spec.runtime, engine.spec.precision) == (runtime, precision)
    for _ in range(RECORD_AFTER + 2):
        assert differing(engine, cases, 1e-2 if precision == "fp32" else NEAR) == []
    assert engine.warm_up() in CUDA_BUDGETS


def test_a_recorded_pass_gives_what_a_plain_one_gives(
    runtimes: RuntimeFactory, micro_batches: list[Arrays]
) -> None:
    """Recorded passes of several shapes in turn never overwrite earlier results, even if read later."""
    ours, plain = runtimes(torch.float32)
    results = [(arrays, ours.run(arrays)) for _ in range(RECORD_AFTER + 3) for arrays in micro_batches]

    assert len(ours._cache) >= 2
    assert max(max_difference(scores, plain.run(arrays), arrays) for arrays, scores in results) < 0.05


def test_a_model_that_asks_the_device_runs_without_recordings(
    runtimes: RuntimeFactory, micro_batches: list[Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording fails, once; the device is none the worse for it, and all answers are right."""
    ours, plain = runtimes(torch.float32)
    forward = StaticGraph.forward

    def asking(self: Any, *tensors: Any, **sizes: Any) -> Any:
        assert tensors[0].sum().item() >= 0
        return forward(self, *tensors, **sizes)

    monkeypatch.setattr(StaticGraph, "forward", asking)
    for _ in range(RECORD_AFTER + 3):
        for arrays in micro_batches:
            assert max_difference(ours.run(arrays), plain.run(arrays), arrays) < 0.05
    assert len(ours._cache) == 0
    assert torch.ones(3, device="cuda").sum().item() == 3


def test_a_full_device_is_known_and_survived(runtimes: RuntimeFactory, micro_batches: list[Arrays]) -> None:
    """Running out of memory differs from a lost device; recordings are dropped, and made again."""
    ours, plain = runtimes(torch.float32)
    for _ in range(RECORD_AFTER + 1):
        ours.run(micro_batches[-1])
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (total - free + 2**30) / total))
    try:
        with pytest.raises(OutOfMemory):
            ours.run({name: np.tile(array, (4000, 1)) for name, array in micro_batches[-1].items()})
        ours.release_memory()
        assert len(ours._cache) == 0
        for _ in range(RECORD_AFTER + 1):
            assert (
                max_difference(ours.run(micro_batches[-1]), plain.run(micro_batches[-1]), micro_batches[-1]) < 0.05
            )
        assert len(ours._cache) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_faster_way_is_chosen_and_remembered(shipped: Resolved, tmp_path: Path) -> None:
    """Of all that agree; the second start has the same, and gives the same answers."""
    first = load_model(shipped, EngineOptions("cuda", cache_dir=tmp_path))
    second = load_model(shipped, EngineOptions("cuda", cache_dir=tmp_path))

    assert first.spec == second.spec
    random = Random(3)
    some: list[tuple[Case, dict[str, Any]]] = [(Case(passage(random, 30), LABEL_SETS[0], Options()), {})]
    assert differing(first, some, NEAR) == differing(second, some, NEAR)
