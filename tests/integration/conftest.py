"""A client for the tests on one local stack, which they leave as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gleaner import Client
from tests.support.processes.local_stack import RunningStack


@pytest.fixture
def client(stack: RunningStack) -> Iterator[Client]:
    """Return a client of that stack's admin."""
    with Client(stack.url, stack.key) as client:
        yield client
