"""A ledger on a real server, for tests that call it directly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobs.ledger import Ledger
from jobs.redis.clients import connect


@pytest.fixture
def client(ledger_url: str) -> Iterator[redis.Redis]:
    """Yield a client of the ledger's database."""
    connection = connect(ledger_url, 2, "test")
    yield connection
    connection.close()


@pytest.fixture
def store(client: redis.Redis) -> Ledger:
    """Return the ledger."""
    return Ledger(client)
