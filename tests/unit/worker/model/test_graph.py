"""The cheaper forward pass of span models compared with gliner's, also after a recurrent layer."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from gliner.modeling.layers import LstmSeq2SeqEncoder
from numpy.typing import NDArray

from benchmarks.measurements.medium import medium_folder
from jobs.schema import Document
from jobs.tasks import Tasks
from tests.support.texts import LABEL_SETS, passage
from worker.model import gliner_loader
from worker.model.collate import Arrays, collate_windows
from worker.model.graph import LibraryGraph, MarkerGraph, PaddedBiLSTM, without_packing
from worker.model.selection import onnx_export
from worker.model.sources.resolve import resolve_model
from worker.model.tokenizer import FastTokenizer
from worker.protocols import ShardRef
from worker.text.windows import JobContext, cut_document

SHIPPED = Path(__file__).parents[4] / "models" / "gleaner-small"
SIZES = [(1, 5), (2, 16), (3, 17), (5, 40)]
"""Micro-batches: rows, and sentences that make them longer and shorter than a step of words."""


@pytest.fixture(scope="module", params=["shipped", "recurrent"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model without or with a recurrent layer over the words."""
    if request.param == "shipped":
        return SHIPPED
    return medium_folder(tmp_path_factory.mktemp("models") / "medium", layers=1)


def batches(model: Any, folder: Path) -> list[Arrays]:
    """Return micro-batches of several shapes, rows of different lengths and numbers of labels."""
    random, source = Random(7), resolve_model(str(folder), None, Path("unused"))
    described = gliner_loader.describe_model(model, source, ("span_idx",))
    tokenizer = FastTokenizer(described.spec, described.tokenizer_json, described.word_pattern)
    micro_batches = []
    for rows, words in SIZES:
        texts = [" ".join(passage(random, 9).split()[: words - row]) for row in range(rows)]
        plans = [
            cut_document(
                Document(0, "0", text), JobContext(ShardRef("job", 0), Tasks(LABEL_SETS[row % 3])), tokenizer
            )
            for row, text in enumerate(texts)
        ]
        micro_batches.append(collate_windows([plan.windows[0] for plan in plans], described.layout))
    return micro_batches


def of_words(logits: NDArray[Any], arrays: Arrays) -> list[NDArray[Any]]:
    """Return every row's scores of the spans in its text."""
    return [
        logits[row, start, : length - start]
        for row, [length] in enumerate(arrays["text_lengths"])
        for start in range(length)
    ]


def test_scores_are_those_of_gliner_in_every_shape(folder: Path, tmp_path: Path) -> None:
    """In torch and exported, for rows padded to a multiple of the steps of tokens and words."""
    model = gliner_loader.load_gliner(folder, "cpu")
    assert hasattr(model.model, "rnn") == (folder != SHIPPED)
    theirs, ours = LibraryGraph(model.model, spans=True).eval(), MarkerGraph(model.model).eval()
    micro_batches = batches(model, folder)
    session = onnxruntime.InferenceSession(str(onnx_export.export_graph(ours, micro_batches[-1], tmp_path)))

    for arrays in micro_batches:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.inference_mode():
            wanted = theirs(*(tensors[name] for name in theirs.inputs)).numpy()
            scores = ours(*(tensors[name] for name in ours.inputs)).numpy()
        [exported] = session.run(None, {name: arrays[name] for name in ours.inputs})
        for here, there, out in zip(
            *(of_words(logits, arrays) for logits in (wanted, scores, exported)), strict=True
        ):
            assert np.allclose(here, there, atol=1e-4)
            assert np.allclose(here, out, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padded_rows_are_those_of_gliner(layers: int, dtype: torch.dtype) -> None:
    """Rows of unlike lengths give the same as in gliner, zeros behind their end, whatever pads them."""
    torch.manual_seed(4)
    layer = LstmSeq2SeqEncoder(SimpleNamespace(hidden_size=6), num_layers=layers).eval()
    words, lengths = torch.randn(3, 9, 6), torch.tensor([[9], [1], [4]])
    mask = torch.arange(9)[None, :] < lengths
    ours = PaddedBiLSTM(layer.lstm)
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
        wanted = layer(words, mask, lengths=[9, 1, 4])

        for padding in (0.0, 1e4):
            output = ours(torch.where(mask[..., None], words, padding), mask)
            assert torch.allclose(output.float(), wanted.float(), atol=1e-6 if dtype is torch.float32 else 0.02)
            assert not output[~mask].any()


def test_an_empty_row_is_all_zeros() -> None:
    """A row that only pads a micro-batch to a recorded shape breaks nothing; gliner refuses it."""
    ours = PaddedBiLSTM(torch.nn.LSTM(6, 3, bidirectional=True, batch_first=True))

    output = ours(torch.randn(2, 4, 6), torch.tensor([[True] * 4, [False] * 4]))

    assert output[0].any()
    assert not output[1].any()


def test_the_librarys_own_model_stays_as_it_is() -> None:
    """The layer is replaced in a copy that shares the rest, and once only."""
    core = torch.nn.Module()
    core.rnn, core.rest = LstmSeq2SeqEncoder(SimpleNamespace(hidden_size=6)), torch.nn.Linear(2, 2)

    replaced = without_packing(core)

    assert isinstance(core.rnn, LstmSeq2SeqEncoder)
    assert isinstance(replaced.rnn, PaddedBiLSTM)
    assert replaced.rest is core.rest
    assert without_packing(replaced) is replaced
    assert without_packing(core.rest) is core.rest
