from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.errors import ModelBrokenError
from worker.model.sources.weight_files import WeightFiles, choose_weights, is_weights

ONE, HALF, PICKLE = "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    ("names", "variant", "expected"),
    [
        ([ONE, PICKLE], "", WeightFiles((ONE,))),
        ([ONE, HALF], "", WeightFiles((ONE,))),
        ([HALF], "", WeightFiles((HALF,), variant="fp16")),
        ([HALF, PICKLE], "", WeightFiles((HALF,), variant="fp16")),
        ([PICKLE, "model.onnx"], "", WeightFiles((PICKLE,), pickled=True)),
        ([ONE, "pytorch_model.fp16.bin"], "fp16", WeightFiles(("pytorch_model.fp16.bin",), True, "fp16")),
        ([*reversed(SHARDS), "model.safetensors.index.json"], "", WeightFiles(SHARDS)),
        *(
            ([name], "fp16", WeightFiles((name,), variant="fp16"))
            for name in ("model.fp16-00001-of-00001.safetensors", "model-00001-of-00001.fp16.safetensors")
        ),
    ],
)
def test_one_set_of_weights_is_chosen(names: list[str], variant: str, expected: WeightFiles) -> None:
    """Safetensors before pickles, one file before shards, the usual ones before variants."""
    assert choose_weights("here", names, variant) == expected


@pytest.mark.parametrize(
    ("names", "variant", "reason"),
    [
        ([], "", "no model.safetensors"),
        (["decoy.safetensors"], "", "decoy.safetensors is not read"),
        (["model.onnx"], "", "model.onnx is not read"),
        (["model-00001-of-00003.safetensors"], "", "1 of the 3 shards"),
        (["pytorch_model-00001-of-00002.bin"], "", "1 of the 2 shards"),
        (["model.fp16.safetensors", "model.bf16.safetensors"], "", "GLEANER_MODEL_VARIANT to one of bf16, fp16"),
        (["model.safetensors"], "fp16", "no weights of the variant 'fp16'. Available: the default"),
    ],
)
def test_a_missing_choice_is_explained(names: list[str], variant: str, reason: str) -> None:
    """The message names the file and the way to mend it."""
    with pytest.raises(ModelBrokenError, match=reason):
        choose_weights("here", names, variant)


@given(
    st.lists(
        st.from_regex(
            r"(pytorch_)?model(\.fp16)?(-0000[0-9]-of-0000[0-9])?(\.fp16)?\.(safetensors|bin)", fullmatch=True
        ),
        max_size=8,
        unique=True,
    )
)
def test_a_choice_is_whole_and_of_what_is_there(names: list[str]) -> None:
    """Existing files of one format, all shards of one set, or a refusal, for any names."""
    try:
        chosen = choose_weights("here", names)
    except ModelBrokenError:
        return
    assert set(chosen.names) <= set(names)
    assert all(is_weights(name) for name in chosen.names)
    assert len({name.rpartition(".")[2] for name in chosen.names}) == 1
    assert chosen.pickled == chosen.names[0].endswith(".bin")
    if len(chosen.names) > 1:
        assert all(f"-of-{len(chosen.names):05}" in name for name in chosen.names)
