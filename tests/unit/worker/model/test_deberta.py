"""The lean encoder compared with transformers': in torch, exported, at every length, alone and in micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DebertaV2Config, DebertaV2Model

from tests.conftest import Checkpoint
from tests.support.families import Family
from tests.unit.worker.model.test_graph import batches, of_words
from worker.model import gliner_loader
from worker.model.deberta import LeanEncoder, with_lean_encoder
from worker.model.graph import Graph, LibraryGraph
from worker.model.runtimes.onnx import OnnxRuntime
from worker.model.runtimes.openvino import OpenVinoRuntime
from worker.model.runtimes.torch import TorchRuntime
from worker.model.selection import onnx_export

KINDS: Mapping[str, Mapping[str, Any]] = {
    "v3": {},
    "content to position": {"pos_att_type": ["c2p"]},
    "position to content": {"pos_att_type": ["p2c"]},
    "own projections": {"share_att_key": False},
    "own projections, one way": {"share_att_key": False, "pos_att_type": ["p2c"], "norm_rel_ebd": "none"},
    "no buckets": {"position_buckets": -1},
    "no buckets, short": {"position_buckets": -1, "max_relative_positions": 9},
    "far": {"position_buckets": 8, "max_relative_positions": 20},
    "no kinds": {"pos_att_type": []},
    "no relative positions": {"relative_attention": False, "position_biased_input": True},
    "convolution": {"conv_kernel_size": 3, "conv_act": "gelu", "share_att_key": False},
    "narrow words": {"embedding_size": 24},
}
"""Keys of the encoder's configuration that differ from the usual ones."""
FAMILIES = [Family(lstm_layers=0, encoder=KINDS[name]) for name in ("v3", "own projections", "no buckets", "far")]
LENGTHS = st.lists(st.integers(1, 150), min_size=1, max_size=3)


def encoder(kind: str) -> DebertaV2Model:
    """Return a model with weights of a trained one's sizes."""
    torch.manual_seed(3)
    usual = {
        "vocab_size": 90, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "max_position_embeddings": 512, "type_vocab_size": 0, "relative_attention": True,
        "position_buckets": 32, "max_relative_positions": -1, "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False, "share_att_key": True, "norm_rel_ebd": "layer_norm",
    }  # fmt: skip
    model = DebertaV2Model(DebertaV2Config(**usual | dict(KINDS[kind]))).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight.shape[-1] ** -0.5)
    return model


@pytest.fixture(scope="module", params=list(KINDS))
def both(request: pytest.FixtureRequest) -> tuple[DebertaV2Model, DebertaV2Model]:
    """Return a model as it is, and the same one with the lean encoder."""
    theirs, ours = encoder(request.param), encoder(request.param)
    assert LeanEncoder.can_replace(ours.encoder)
    ours.encoder = LeanEncoder(ours.encoder).eval()
    return theirs, ours


@settings(max_examples=8)
@given(lengths=LENGTHS, filled=st.integers(0, 9))
def test_vectors_are_those_of_the_library(
    both: tuple[DebertaV2Model, DebertaV2Model], lengths: list[int], filled: int
) -> None:
    """For every token of rows of unlike lengths, and of each of them alone and not filled up."""
    ids = torch.randint(1, 90, (len(lengths), max(lengths) + filled))
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()
    theirs, ours = both
    with torch.inference_mode():
        wanted, seen = (model(ids, mask).last_hidden_state for model in (theirs, ours))
        for row, length in enumerate(lengths):
            alone = ours(ids[row : row + 1, :length], mask[row : row + 1, :length]).last_hidden_state[0]
            assert torch.allclose(seen[row, :length], wanted[row, :length], atol=1e-5)
            assert torch.allclose(alone, wanted[row, :length], atol=1e-5)


@pytest.mark.parametrize("kind", ["v3", "no buckets", "far"])
def test_rows_may_be_longer_than_all_positions(kind: str) -> None:
    """Distances beyond the last bucket are those of the last bucket; every layer's vectors are there."""
    theirs, ours = encoder(kind), encoder(kind)
    ours.encoder = LeanEncoder(ours.encoder).eval()
    ids = torch.randint(1, 90, (1, 1100))
    with torch.inference_mode():
        wanted, seen = (model(ids, torch.ones_like(ids), output_hidden_states=True) for model in (theirs, ours))
    assert len(seen.hidden_states) == len(wanted.hidden_states) == 3
    for there, here in zip(wanted.hidden_states, seen.hidden_states, strict=True):
        assert torch.allclose(here, there, atol=1e-5)


def test_what_does_not_fit_stays_as_it_is() -> None:
    """Buckets that do not grow with the distance, and other encoders, are left to the library."""
    theirs = DebertaV2Model(
        DebertaV2Config(
            vocab_size=90, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=96,
            relative_attention=True, position_buckets=64, max_relative_positions=20,  # type: ignore[call-arg]
        )
    )  # fmt: skip
    assert not LeanEncoder.can_replace(theirs.encoder)
    graph = Graph(torch.nn.Linear(1, 1))
    assert with_lean_encoder(graph) is graph


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_exported_scores_are_those_of_the_library(checkpoint: Checkpoint, tmp_path: Path, family: Family) -> None:
    """On every runtime; the model stays unchanged, and no index is as large as the scores."""
    model = gliner_loader.load_gliner(checkpoint(family), "cpu")
    theirs, ours = LibraryGraph(model.model, spans=True).eval(), gliner_loader.build_graph(model)
    original = model.model.token_rep_layer.bert_layer.model.encoder
    micro_batches = batches(model, checkpoint(family))
    path = onnx_export.export_graph(ours, micro_batches[-1], tmp_path)
    assert model.model.token_rep_layer.bert_layer.model.encoder is original
    assert b"GatherElements" not in path.read_bytes()

    exact = OnnxRuntime(path, 2), OpenVinoRuntime(path, "fp32", 2)
    half = TorchRuntime(ours, "cpu", torch.bfloat16)
    for arrays in micro_batches:
        tensors = [torch.from_numpy(arrays[name]) for name in theirs.inputs]
        with torch.inference_mode():
            wanted = of_words(theirs(*tensors).sigmoid().numpy(), arrays)
        for runtime, margin in ((exact[0], 1e-5), (exact[1], 1e-5), (half, 0.1)):
            scores = 1 / (1 + np.exp(-runtime.run(arrays)["logits"]))
            for there, here in zip(wanted, of_words(scores, arrays), strict=True):
                assert np.allclose(here, there, atol=margin)
