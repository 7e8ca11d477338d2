"""The checkpoints that other tests build: they load, and their scores say something."""

from __future__ import annotations

import pytest
import torch
from gliner import GLiNER

from tests.conftest import Checkpoint
from tests.support.families import LABELS, Backbone, Family, Weights
from tests.support.scripts import SCRIPTS


@pytest.mark.parametrize("backbone", list(Backbone))
def test_scores_are_spread_and_follow_the_words(checkpoint: Checkpoint, backbone: Backbone) -> None:
    """Scores lie on both sides of the usual threshold, and two texts have other ones; it is built once."""
    folder = checkpoint(Family(backbone))
    assert folder == checkpoint(Family(backbone))
    library = GLiNER.from_pretrained(str(folder), local_files_only=True)

    scores = [
        [entity["score"] for entity in library.predict_entities(text, [*LABELS], threshold=0.1)]
        for text in (SCRIPTS["latin"], SCRIPTS["urls"])
    ]

    every = sorted(score for row in scores for score in row)
    assert every[0] < 0.5 < every[-1] < 0.999
    assert len({round(score, 4) for score in every}) > 6


def test_pickled_weights_are_the_same(checkpoint: Checkpoint) -> None:
    """A checkpoint has one file of weights, in the form that was asked for."""
    from safetensors.torch import load_file

    safe, pickled = (checkpoint(Family(), weights) for weights in Weights)

    assert not (pickled / Weights.SAFETENSORS).exists()
    there = torch.load(pickled / Weights.PICKLE, weights_only=True)
    assert all(torch.equal(there[name], value) for name, value in load_file(safe / Weights.SAFETENSORS).items())
