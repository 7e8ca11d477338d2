"""The examples in the client's docstrings, run against the real service."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from gleaner import Client
from tests.support.processes.local_stack import RunningStack

MODULES = (
    "gleaner.aio",
    "gleaner.client",
    "gleaner.label_sets",
    "gleaner.webhook_endpoints",
    "gleaner.exports",
    "gleaner.dataframes",
    "gleaner.webhooks",
)


def examples() -> list[doctest.DocTest]:
    """Every docstring of the modules that has an example."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [example for name in MODULES for example in finder.find(import_module(name)) if example.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_does_what_it_shows(example: doctest.DocTest, client: Client, stack: RunningStack) -> None:
    """Each docstring's example has the result that it shows."""
    example.globs |= {"client": client, "url": stack.url, "key": stack.key}
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL)

    runner.run(example, out=said.append)

    assert runner.failures == 0, "".join(said)
