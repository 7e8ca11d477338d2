"""Matrices of 8 bits in a graph of OpenVINO's."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13 as operations

from worker.model.runtimes.openvino import compress_weights


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
