"""Headers of safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from worker.model.errors import ModelBrokenError
from worker.model.sources.safetensors import read_aliases, read_header, read_shapes

TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def write(path: Path, header: Any, data: bytes = bytes(24)) -> Path:
    """Write a file of this header and these bytes."""
    raw = orjson.dumps(header)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


@given(
    shapes=st.dictionaries(
        st.text("abc.", min_size=1, max_size=8), st.lists(st.integers(0, 4), max_size=3).map(tuple), max_size=6
    )
)
def test_shapes_are_those_that_the_library_wrote(
    shapes: dict[str, tuple[int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tensors without values and without dimensions included."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    path.write_bytes(save({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, {"a": "b"}))
    assert read_shapes(path) == shapes
    assert read_header(path)[1] + sum(2 * int(np.prod(shape)) for shape in shapes.values()) == path.stat().st_size


def test_aliases_are_names_of_stored_tensors(tmp_path: Path) -> None:
    """Other metadata is none."""
    header = {"w": TENSOR, "__metadata__": {"tied": "w", "format": "pt"}}
    assert read_aliases(write(tmp_path / "w", header)) == {"tied"}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"w": {**TENSOR, "dtype": "F33"}},
        {"w": {**TENSOR, "shape": [2, 4]}},
        {"w": {**TENSOR, "shape": [-2, -3]}},
        {"w": {**TENSOR, "shape": [2.0, 3.0]}},
        {"w": {**TENSOR, "shape": [1] * 8 + [6]}},
        {"w": {**TENSOR, "data_offsets": [8, 32]}},
        {"v": TENSOR, "w": TENSOR},
        {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}},
        {"w": TENSOR, "__metadata__": {"a": 1}},
        {"w": TENSOR, "__metadata__": None},
        {"w": {**TENSOR, "dtype": "C64", "shape": [3]}},
        {"w": {}},
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, header: Any) -> None:
    """Gaps, overlaps, and bytes that belong to no tensor included."""
    with pytest.raises(ModelBrokenError, match="damaged or truncated"):
        read_header(write(tmp_path / "w", header))


@given(data=st.binary(max_size=200), keep=st.integers(0, 100))
def test_a_damaged_file_is_refused(data: bytes, keep: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever it was cut, and whatever follows; a file that is accepted is filled by its tensors."""
    path = write(tmp_path_factory.mktemp("weights") / "w", {"w": TENSOR})
    path.write_bytes(path.read_bytes()[:keep] + data)
    try:
        header, begin = read_header(path)
    except ModelBrokenError:
        return
    assert begin + sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()) == (
        path.stat().st_size
    )
