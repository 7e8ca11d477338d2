"""Kubernetes quantities."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gleaner.cli.preflight.quantities import add_amounts, count_surge, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [("500m", Decimal("0.5"), "0.5"), ("2", Decimal(2), "2"), ("2Gi", Decimal(2**31), "2Gi"),
     ("1e3", Decimal(1000), "1000"),
     ("100", Decimal(100), "100"), ("1500M", Decimal("1.5e9"), "1.397Gi")],
)  # fmt: skip
def test_quantities_are_read_as_the_api_server_does(text: str, value: Decimal, shown: str) -> None:
    """Thousandths, powers of 1000 and of 1024, exponents."""
    assert parse_quantity(text) == value
    assert format_quantity(value) == shown


def test_a_percentage_of_surge_is_rounded_up() -> None:
    """The Deployment controller rounds so, too."""
    assert [count_surge("25%", 1), count_surge("25%", 4), count_surge("25%", 5), count_surge(0, 9)] == [1, 1, 2, 0]
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity("many")


@given(st.integers(0, 2**62))
def test_a_short_form_is_close(value: int) -> None:
    """It has three decimals of its unit, and reads back within half of the last one."""
    shown = format_quantity(Decimal(value))
    unit = {"Gi": 2**30, "Mi": 2**20}.get(shown[-2:], 1)
    assert abs(parse_quantity(shown) - value) <= Decimal(unit) / 2000


@settings(max_examples=40)
@given(
    st.lists(st.dictionaries(st.sampled_from(["cpu", "memory", "pods"]), st.decimals(0, 9, places=3)), max_size=4)
)
def test_sums_are_by_resource(parts: list[dict[str, Decimal]]) -> None:
    """No resource is lost, and none is invented."""
    total = add_amounts(parts)
    assert total.keys() == {name for part in parts for name in part}
    assert sum(total.values()) == sum(sum(part.values()) for part in parts)
