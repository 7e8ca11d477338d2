"""8-bit weights for OpenVINO, which then multiplies in 8 bits where the processor has VNNI instructions."""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13 as operations

LEAST = 64
"""Fewest rows and columns for which it is worthwhile."""
MAX_INT8 = 127


def compress_weights(model: openvino.Model) -> int:
    """Replace constant matrices by 8-bit ones with a scale for each output; return the number of replaced ones.

    Embeddings and recurrent layers keep their precision.
    """
    count = 0
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        constant = product.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2 or min(constant.shape) < LEAST:
            continue
        options = product.get_attributes()
        weights = np.asarray(constant.data, np.float32)
        rows = weights if options["transpose_b"] else weights.T  # one row per output
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / MAX_INT8, np.finfo(np.float32).tiny)
        small = operations.constant(np.ascontiguousarray(np.rint(rows / scales).astype(np.int8)))
        wide = operations.multiply(operations.convert(small, "f32"), operations.constant(scales))
        replacement = operations.matmul(product.input_value(0), wide, options["transpose_a"], True)
        replacement.set_friendly_name(product.get_friendly_name())
        product.output(0).replace(replacement.output(0))
        count += 1
    model.validate_nodes_and_infer_types()
    return count
