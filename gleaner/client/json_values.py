"""JSON that the client sends: numpy's numbers made plain, and a sentence about values that have no JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any


def encode_json(body: Mapping[str, Any], name: str) -> bytes:
    """Return the body as JSON in UTF-8; numbers and arrays of numpy and its kind become plain ones.

    Raises:
        TypeError: a value has no JSON form. `name` says whose body it is.
        ValueError: a number is NaN or infinite, or the value holds itself.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_to_plain)
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be written as JSON: {_find_unfit(body) or error}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8. Escaped, it travels, and its document fails alone at the gateway.
        return json.dumps(body, separators=(",", ":"), allow_nan=False, default=_to_plain).encode()


def _to_plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy, PyTorch, pandas, Polars: scalars, too
        return value.tolist()
    if hasattr(value, "__float__"):  # Decimal, Fraction
        return float(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _find_unfit(value: object, path: str = "", depth: int = 0) -> str | None:
    """Return a sentence about the first value that JSON does not have, or None."""
    if depth > 20:
        return f"{path} is nested too deeply"
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif value is not None and not isinstance(value, str | int):
        try:
            plain = _to_plain(value)
        except (TypeError, ValueError):
            return f"{path} is {describe_type(value)}"
        if isinstance(plain, float) and not math.isfinite(plain):
            return f"{path} is {plain}"
    return next(
        (found for key, item in items if (found := _find_unfit(item, f"{path}/{key}", depth + 1))),
        None,
    )


def describe_type(value: object) -> str:
    """Return words for a value in the wrong place: None and NaN as they are, of all others the type alone."""
    if value is None or (isinstance(value, float) and value != value):
        return repr(value)
    return f"of type {type(value).__name__}"
