"""The forward pass on OpenVINO: lanes, failures, matrices of 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as operations

from tests.unit.worker.model.tiny_graph import TinyGraph, export_tiny, make_arrays, score
from worker.model.runtimes import openvino as runtimes
from worker.model.runtimes.openvino import EXPRESS_TOKENS, OpenVinoRuntime, compress_weights


@pytest.mark.parametrize("turned", [True, False])
def test_constant_matrices_have_8_bits_and_products_stay(turned: bool) -> None:
    """With a scale for each output, also for one of zeros; small matrices and computed ones are left alone."""
    random = np.random.default_rng(3)
    large = (random.normal(size=(80, 96)) * np.logspace(-3, 2, 80)[:, None]).astype(np.float32)
    large[5] = 0
    small = random.normal(size=(80, 8)).astype(np.float32)
    words = operations.parameter([-1, 96], np.float32)
    first = operations.matmul(words, large if turned else large.T.copy(), False, turned)
    second = operations.matmul(first, small, False, False)
    model = openvino.Model([operations.matmul(first, first, True, False), first, second], [words])
    rows = random.normal(size=(7, 96)).astype(np.float32)

    assert compress_weights(model) == 1

    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    _, products, _ = compiled(rows).values()
    wanted = rows @ large.T
    assert (np.abs(products - wanted) <= 0.03 * np.abs(wanted).max(axis=0)).all()
    kinds = [
        node.get_element_type().get_type_name() for node in model.get_ops() if node.get_type_name() == "Constant"
    ]
    assert kinds.count("i8") == 1


def test_scores_are_those_of_the_graph(tmp_path: Path) -> None:
    """Of small passes, which the express runs, and of large ones; an answer is not changed by the next pass."""
    runtime = OpenVinoRuntime(export_tiny(tmp_path), "fp32", 2)
    answers = []
    for arrays in (make_arrays(1, 3), make_arrays(4, 90), make_arrays(2, 8)):
        assert (arrays["input_ids"].size > EXPRESS_TOKENS) == (len(arrays["input_ids"]) == 4)
        answers.append((score(TinyGraph(), arrays), runtime.run(arrays)["logits"]))
    assert all(np.allclose(here, there, atol=1e-4) for there, here in answers)


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (2, 2), (3, 1)])
def test_lanes_share_the_cores_equally(tmp_path: Path, threads: int, lanes: int) -> None:
    """An odd number of cores is not divided."""
    assert OpenVinoRuntime(export_tiny(tmp_path), "fp32", threads).lanes == lanes


def test_a_large_model_has_no_express(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the memory of a second copy of the weights."""
    path = export_tiny(tmp_path)
    assert OpenVinoRuntime(path, "fp32", 2).express_tokens == EXPRESS_TOKENS
    monkeypatch.setattr(runtimes, "EXPRESS_MODEL_BYTES", 10)
    runtime = OpenVinoRuntime(path, "fp32", 2)
    assert runtime.express_tokens == 0
    assert runtime.run(make_arrays(1, 3))["logits"].shape[:2] == (1, 3)


def test_a_failed_pass_does_not_spoil_the_next_ones(tmp_path: Path) -> None:
    """The model is compiled again: OpenVINO keeps half of the failed pass's shapes."""
    runtime = OpenVinoRuntime(export_tiny(tmp_path), "fp32", 2)
    arrays = make_arrays(2, 4)
    with pytest.raises(RuntimeError):
        runtime.run({**arrays, "words_mask": arrays["words_mask"][:, :3]})
    for shape in ((2, 4), (5, 70)):
        arrays = make_arrays(*shape)
        assert np.allclose(runtime.run(arrays)["logits"], score(TinyGraph(), arrays), atol=1e-4)
