"""A safetensors file's header -> the shapes of its tensors, if header and file agree in every byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError, safe_open

from worker.model.errors import ModelBrokenError

METADATA = "__metadata__"
MAX_HEADER_BYTES = 8 * 2**20
MAX_VALUES = 1_000_000
"""A header of a thousand tensors has some 10,000 values and 100 kB."""
MAX_DIMENSIONS = 8
WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
           "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}  # fmt: skip

Shape = tuple[int, ...]


def read_shapes(path: Path) -> dict[str, Shape]:
    """Return the shape of each tensor by its name; the tensors themselves are not read.

    Raises:
        ModelBrokenError: the file is truncated or damaged, or its header violates the format.
    """
    header, _ = read_header(path)
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != METADATA}


def read_aliases(path: Path) -> frozenset[str]:
    """Return the names of tensors that are stored in the file only under the name of an equal one.

    safetensors writes these names into the metadata, from which gliner restores them.

    Raises:
        ModelBrokenError: as `read_shapes`.
    """
    header, _ = read_header(path)
    return frozenset(name for name, stored in header.get(METADATA, {}).items() if stored in header)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a file's header, checked, and the offset in the file at which its tensors begin.

    The library checks that the tensors fill the file without overlaps. The size of the header, from which it makes
    objects, is checked before.

    Raises:
        ModelBrokenError: as `read_shapes`.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("the header's length")
            raw = file.read(length)
        if raw.count(b"[") + raw.count(b"{") + raw.count(b",") > MAX_VALUES:
            raise ValueError("too many values in the header")
        header = orjson.loads(raw)
        with safe_open(path, "numpy"):
            _check_entries(header)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelBrokenError(
            f"{path}: damaged or truncated ({size} bytes; {str(error)[:100]}); fetch it again."
        ) from error
    return header, 8 + length


def _check_entries(header: dict[str, Any]) -> None:
    """Refuse headers that the library accepts, but gliner and `conversion` do not read."""
    if header.get(METADATA, {}) is None:
        raise ValueError("the metadata is null")
    for name, entry in header.items():
        if name != METADATA and (entry["dtype"] not in WIDTHS or len(entry["shape"]) > MAX_DIMENSIONS):
            raise ValueError("a tensor of an unusual type or shape")
