"""The recurrent layer over padded rows compared with gliner's, which packs them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from gliner.modeling.layers import LstmSeq2SeqEncoder

from worker.model.recurrent import PaddedBiLSTM, without_packing


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
