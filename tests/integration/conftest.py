"""One local stack for the integration tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gleaner import Client
from tests.support.local_stack import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A `gleaner up` with everything, ready; its model computes exactly as gliner itself does."""
    exact = {"GLEANER_RUNTIME": "torch", "GLEANER_PRECISION": "fp32"}
    with running_stack(tmp_path_factory.mktemp("stack") / "home", environment=exact) as stack:
        yield stack


@pytest.fixture
def client(stack: RunningStack) -> Iterator[Client]:
    """The admin's client of that stack."""
    with Client(stack.url, stack.key) as client:
        yield client
