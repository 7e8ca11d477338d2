"""Running the ledger's calls from threads."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import redis

from jobs import ledger
from jobs.ledger import Call, Ledger, LedgerUnavailableError
from jobs.ledger.store import MAX_RETRY_S

T = TypeVar("T")


class FailingLedger(Ledger):
    """A ledger that does not answer the first calls."""

    def __init__(self, client: redis.Redis, failures: float) -> None:
        super().__init__(client)
        self.failures = failures

    def run(self, call: Call[T]) -> T:
        """Fail, or run the call."""
        self.failures -= 1
        if self.failures >= 0:
            raise LedgerUnavailableError("down")
        return super().run(call)


def test_a_call_is_repeated_until_redis_answers(client: redis.Redis) -> None:
    """With pauses that grow up to a limit."""
    pauses: list[float] = []
    answer = FailingLedger(client, 8).run_with_retries(ledger.ping_write(), pauses.append)
    assert answer > 0
    assert len(pauses) == 8
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] == MAX_RETRY_S


def test_a_call_is_given_up_when_its_caller_must_end(client: redis.Redis) -> None:
    """At the end of the pause that was interrupted, with the error of the latest attempt."""
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    with pytest.raises(LedgerUnavailableError):
        FailingLedger(client, math.inf).run_with_retries(ledger.ping_write(), wait)
    assert len(pauses) == 3


def test_a_call_is_given_up_in_time(client: redis.Redis) -> None:
    """No attempt begins later than allowed."""
    pauses: list[float] = []
    with pytest.raises(LedgerUnavailableError):
        FailingLedger(client, math.inf).run_with_retries(ledger.ping_write(), pauses.append, within_s=1.0)
    assert pauses
    assert max(pauses) <= 1.0


def test_a_server_without_the_script_gets_it(store: Ledger, client: redis.Redis) -> None:
    """For example after a restart of the server; a bug in a script does not pass for an outage."""
    client.script_flush()
    assert store.run(ledger.ping_write()) > 0
    with pytest.raises(RuntimeError, match="ledger script create"):
        store.run(Call("create_job", (b"no json", b"", b"", b"", b"[]", b""), lambda _: None))
