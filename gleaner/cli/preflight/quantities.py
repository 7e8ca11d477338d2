"""Kubernetes quantities: `500m`, `2Gi`, `1e3`; and percentages of replicas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal

Amounts = Mapping[str, Decimal]
"""Resource -> amount, such as cpu in cores and memory in bytes."""
_SUFFIXES = {
    **{
        suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)
    },
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{suffix: Decimal(1000) ** -power for power, suffix in enumerate(("m", "u", "n"), start=1)},
    "": Decimal(1),
}


def parse_quantity(text: object) -> Decimal:
    """Parse a quantity as the API server does.

    Raises:
        ValueError: it is not a quantity.
    """
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[kMGTPEmun]?)", str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def format_quantity(amount: Decimal) -> str:
    """Return a short form: Gi and Mi for large numbers, thousandths for fractions."""
    suffix = next((suffix for suffix in ("Gi", "Mi") if amount >= _SUFFIXES[suffix]), "")
    digits = f"{amount / _SUFFIXES[suffix]:.3f}"
    return digits.rstrip("0").rstrip(".") + suffix


def parse_amounts(quantities: Mapping[str, object] | None) -> dict[str, Decimal]:
    """Parse a mapping of resources."""
    return {name: parse_quantity(quantity) for name, quantity in (quantities or {}).items()}


def add_amounts(parts: Iterable[Amounts]) -> dict[str, Decimal]:
    """Return the sum by resource."""
    total: dict[str, Decimal] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def count_surge(max_surge: object, replicas: int) -> int:
    """Return the pods that a rolling update adds: a number, or a percentage of the replicas, rounded up."""
    if isinstance(max_surge, str) and max_surge.endswith("%"):
        share = Decimal(max_surge.removesuffix("%")) * replicas / 100
        return int(share.to_integral_value(ROUND_CEILING))
    return int(str(max_surge))
