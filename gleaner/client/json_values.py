"""Encode the client's JSON: convert numpy values, and name the values that JSON cannot represent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any


def encode_json(body: Mapping[str, Any], name: str) -> bytes:
    """Return the body as JSON in UTF-8; numbers and arrays of numpy and similar libraries are converted.

    Raises:
        TypeError: a value has no JSON form. `name` names the body in the message.
        ValueError: a number is NaN or infinite, or a value contains itself.
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
    """Return a sentence about the first value that JSON cannot represent, or None."""
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
    complaints = (_find_unfit(item, f"{path}/{key}", depth + 1) for key, item in items)
    return next(filter(None, complaints), None)


def describe_type(value: object) -> str:
    """Return a description of an unexpected value: None and NaN as they are, otherwise only the type."""
    if value is None or (isinstance(value, float) and value != value):
        return repr(value)
    return f"of type {type(value).__name__}"
