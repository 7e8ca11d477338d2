from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.validation import MAX_ERRORS, collect_errors, json_pointer


def check_numbers(count: int) -> None:
    """Find `count` violations."""
    with collect_errors() as errors:
        for number in range(count):
            errors.add((number,), "is wrong")


def test_pointers_escape_and_stay_short() -> None:
    """RFC 6901's two escapes; a name of a megabyte is truncated."""
    assert json_pointer("documents", 3, "a/b~c") == "/documents/3/a~1b~0c"
    assert len(json_pointer("x" * 1_000_000)) < 200


def test_one_violation_is_the_detail() -> None:
    """A single error is readable without the list; several are counted."""
    with pytest.raises(GatewayError) as caught, collect_errors() as errors:
        errors.add(("a", 0), "is wrong")
    assert (caught.value.detail, caught.value.violations) == ("/a/0 is wrong", (("/a/0", "is wrong"),))

    with pytest.raises(GatewayError) as caught:
        check_numbers(3)
    assert caught.value.detail == "3 fields of the request are not valid"


def test_the_search_ends_after_enough_violations() -> None:
    """A client that repeats one mistake learns from the first few."""
    with pytest.raises(GatewayError) as caught:
        check_numbers(10_000)
    assert len(caught.value.violations) == MAX_ERRORS
    assert caught.value.detail.startswith(f"at least {MAX_ERRORS} ")


def test_without_violations_nothing_is_raised() -> None:
    """A valid request passes."""
    with collect_errors() as errors:
        pass
    assert len(errors) == 0
