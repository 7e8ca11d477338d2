"""Calls for rate limits and sessions: their arguments, and replies as values."""

from __future__ import annotations

import pytest

from jobs.ledger.access import (
    MAX_SESSIONS,
    RateWindow,
    Take,
    Taken,
    begin_session,
    end_session,
    find_session_key,
    take_rates,
)

TAKES = (Take("key/requests", 10, 60, 1), Take("tenant/documents", 1000, 86_400, 50))
ROWS = [[b"3", b"1000", b"4", b"59000"], [0, 0, 50, 172_800_000]]


def test_all_rules_are_one_call() -> None:
    """Four arguments per rule, in the order of the rules."""
    assert take_rates(TAKES).args == ("key/requests", 10, 60, 1, "tenant/documents", 1000, 86_400, 50)


@pytest.mark.parametrize(("reply", "refused"), [(0, None), (1, 0), (2, 1)])
def test_the_first_exceeded_rule_is_an_index(reply: int, refused: int | None) -> None:
    """The script counts from 1, and 0 is none; the windows come in either case."""
    windows = (RateWindow(3, 1000, 4, 59_000), RateWindow(0, 0, 50, 172_800_000))

    assert take_rates(TAKES).parse([reply, *ROWS]) == Taken(refused, windows)


def test_sessions() -> None:
    """Lifetimes are milliseconds in the ledger; an unknown session has no key."""
    assert begin_session("s", "h", 60).args == ("s", "h", 60_000, MAX_SESSIONS)
    assert find_session_key("s").parse(b"hash") == "hash"
    assert find_session_key("s").parse(b"") == ""
    assert [end_session("s").parse(reply) for reply in (1, 0)] == [True, False]
