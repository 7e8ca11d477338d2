"""The forward pass for CUDA, as far as it can be tested without a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tests.unit.worker.model.test_graph import batches, folder, of_words
from worker.model import gliner_loader
from worker.model.collate import Arrays, word_slots
from worker.model.graph import LibraryGraph, MarkerGraph, cast_linear_weights
from worker.model.static_graph import StaticGraph

__all__ = ["folder"]  # a fixture: two models, the shipped one, and one with a recurrent layer and DeBERTa


@pytest.fixture(scope="module")
def model(folder: Any) -> Any:
    """Return the model, loaded by gliner."""
    return gliner_loader.load_gliner(folder, "cpu")


@pytest.fixture(scope="module")
def micro_batches(model: Any, folder: Any) -> list[Arrays]:
    """Return micro-batches of several shapes."""
    return batches(model, folder)


def tensors(arrays: Arrays, names: tuple[str, ...], rows: int = 0, columns: int = 0) -> list[torch.Tensor]:
    """Return inputs padded with `rows` rows and `columns` columns of zeros."""
    inputs = []
    for name in names:
        more = 0 if name == "text_lengths" else columns
        inputs.append(torch.nn.functional.pad(torch.from_numpy(arrays[name]), (0, more, 0, rows)))
    return inputs


def sizes(graph: StaticGraph, arrays: Arrays) -> dict[str, int]:
    """Return the sizes that the host passes to the graph."""
    words = int(word_slots(int(arrays["text_lengths"].max())))
    return {"words": words, "labels": graph.count_labels(arrays["input_ids"], arrays["attention_mask"])}


def test_scores_are_those_of_gliner_in_every_shape(model: Any, micro_batches: list[Arrays]) -> None:
    """Unpadded, and padded with rows, tokens, words and labels."""
    theirs = LibraryGraph(model.model, spans=True).eval()
    ours = StaticGraph(model.model, torch.float32).eval()
    for arrays in micro_batches:
        shape = sizes(ours, arrays)
        more = {name: size + 8 for name, size in shape.items()}
        with torch.inference_mode():
            wanted = theirs(*tensors(arrays, theirs.inputs)).numpy()
            scores = ours(*tensors(arrays, ours.inputs), **shape).numpy()
            filled = ours(*tensors(arrays, ours.inputs, 3, 24), **more).numpy()
        assert scores.shape == (*wanted.shape[:1], shape["words"], *wanted.shape[2:])
        rows, _, widths, labels = wanted.shape
        filled = filled[:rows, :, :widths, :labels]
        every = (of_words(logits, arrays) for logits in (wanted, scores, filled))
        for there, here, full in zip(*every, strict=True):
            assert np.allclose(here, there, atol=1e-3)
            assert np.allclose(full, there, atol=1e-3)


def test_shapes_do_not_depend_on_the_device(model: Any, micro_batches: list[Arrays]) -> None:
    """Tensors without values pass: no length, branch or index depends on computed values. gliner's do."""
    ours, theirs = StaticGraph(model.model, torch.bfloat16).eval(), MarkerGraph(model.model).eval()
    shape = sizes(ours, micro_batches[-1])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.inference_mode():
        empty = [mode.from_tensor(tensor) for tensor in tensors(micro_batches[-1], ours.inputs)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = ours(*empty, **shape)
            assert logits.shape[1::2] == (shape["words"], shape["labels"])
            with pytest.raises(DataDependentOutputException):
                theirs(*empty)


def test_weights_cast_once_are_those_of_autocast(model: Any, micro_batches: list[Arrays]) -> None:
    """Equal scores; weights that are not multiplied in 16 bits are shared."""
    plain = MarkerGraph(model.model).eval()
    ready = cast_linear_weights(plain, torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for arrays in micro_batches:
            inputs = tensors(arrays, plain.inputs)
            assert torch.equal(plain(*inputs), ready(*inputs))
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    assert ready.core.prompt_rep_layer[0].weight.dtype is torch.bfloat16
    words = [graph.core.token_rep_layer.get_input_embeddings().weight.data_ptr() for graph in (plain, ready)]
    assert words[0] == words[1]
