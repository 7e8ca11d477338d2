"""The tree of exceptions against the gateway's own registry of error codes."""

from __future__ import annotations

import re

import httpx
import pytest

from gateway.http.problems import REGISTRY, Problem
from gleaner import errors


def documented() -> dict[str, str]:
    """Code to the exception under whose name the module's docstring lists it."""
    exceptions: dict[str, str] = {}
    tree = errors.__doc__ or ""
    for name, rest in re.findall(r"[├└]── (\w+) +(.*?)(?=[├└]──|\n\n)", tree, re.DOTALL):
        for codes in re.findall(r"\[([\w,\s│]+)\]", rest):
            exceptions |= dict.fromkeys(re.findall(r"\w+", codes), name)
    return exceptions


@pytest.mark.parametrize("code", REGISTRY)
def test_every_code_has_its_exception(code: str) -> None:
    """Every error code of the gateway is raised as the class that the docstring's tree lists for it."""
    response = Problem(code, "so it is").to_response("req")
    raised = errors.from_response(httpx.Response(response.status_code, content=bytes(response.body)))

    assert (type(raised).__name__, raised.code, raised.detail) == (documented().get(code), code, "so it is")
    assert isinstance(raised, errors.ServerError) == (REGISTRY[code].status == 500)


def test_the_tree_names_no_code_that_is_gone() -> None:
    """A code that the gateway does not know any more is not promised."""
    assert documented().keys() <= REGISTRY.keys()
