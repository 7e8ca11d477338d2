"""A ledger on a real server, for tests that call it directly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobs.ledger import Ledger
from jobs.redis.clients import connect


@pytest.fixture
def client(ledger_url: str) -> Iterator[redis.Redis]:
    """The ledger's database."""
    made = connect(ledger_url, 2, "test")
    yield made
    made.close()


@pytest.fixture
def store(client: redis.Redis) -> Ledger:
    """The ledger."""
    return Ledger(client)
