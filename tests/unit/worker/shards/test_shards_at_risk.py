from __future__ import annotations

from jobs.ledger import LedgerUnavailableError
from worker.protocols import ShardRef
from worker.shards.shards_at_risk import ShardsAtRisk

A, B = ShardRef("a", 0), ShardRef("b", 0)


class WriteLog:
    """Records every write: the jobs on the list, and those taken off it."""

    def __init__(self) -> None:
        self.lists: list[set[str]] = []
        self.taken_off: list[set[str]] = []

    def __call__(self, at_risk: frozenset[ShardRef], left: frozenset[ShardRef]) -> None:
        self.lists.append({shard.job_id for shard in at_risk})
        self.taken_off.append({shard.job_id for shard in left})


def test_only_what_is_touched_is_at_risk() -> None:
    """A shard is at risk from `add` to `discard`, again at its next `add`, and never once it is not tracked."""
    written = WriteLog()
    at_risk = ShardsAtRisk(written)
    with at_risk.track(A), at_risk.track(B):
        at_risk.add({A})
        at_risk.add({B})
        at_risk.discard(A)
        at_risk.add({B}, exact=True)
        at_risk.add({A})
    at_risk.add({A}, exact=True)  # windows of a shard that was dropped may still come into a forward
    assert written.lists == [{"a"}, {"a", "b"}, {"b"}, {"a", "b"}, set()]
    assert written.taken_off == [set(), set(), {"a"}, set(), {"a", "b"}]


def test_claim_and_completion_are_not_written_again() -> None:
    """A shard alone in an idle worker is written down by its claim and taken off by its completion."""
    written = WriteLog()
    at_risk = ShardsAtRisk(written)
    with at_risk.track(A, recorded=True):
        at_risk.add({A})
        at_risk.discard(A)
        at_risk.add({A}, exact=True)
        at_risk.discard(A)
        at_risk.forget(A)
    at_risk.flush()
    assert written.lists == []


def test_a_safe_shard_stays_on_the_list_until_the_next_write() -> None:
    """Cutting the next shard does not take it off; a forward pass, `flush`, and the end of tracking do."""
    written = WriteLog()
    at_risk = ShardsAtRisk(written)
    with at_risk.track(A, recorded=True):
        at_risk.discard(A)
        with at_risk.track(B, recorded=True):
            at_risk.add({B})
            assert written.lists == []
            at_risk.flush()
    at_risk.flush()
    assert (written.lists, written.taken_off) == ([{"b"}, set()], [{"a"}, {"b"}])


def test_what_is_at_risk_for_long_is_written_down_again() -> None:
    """The list expires, and Redis may have lost its latest second."""
    now, written = [0.0], WriteLog()
    at_risk = ShardsAtRisk(written, clock=lambda: now[0])
    with at_risk.track(A, recorded=True):
        for now[0] in (0.0, 59.0, 61.0, 62.0):
            at_risk.add({A}, exact=True)
    assert written.lists == [{"a"}]


def test_a_shard_that_is_held_twice_stays_until_both_let_go() -> None:
    """A lease lost and won again in one process: the old holder's end does not clear the new one."""
    written = WriteLog()
    at_risk = ShardsAtRisk(written)
    with at_risk.track(A):
        with at_risk.track(A):
            at_risk.add({A})
        at_risk.add({A}, exact=True)
        at_risk.flush()
    assert written.lists == [{"a"}]


def test_redis_is_tried_once_in_a_while_when_down() -> None:
    """Every thread of the worker, the model's too, comes through here: none may wait for each other's timeouts."""
    now, attempts = [0.0], list[float]()

    def down(*_: frozenset[ShardRef]) -> None:
        attempts.append(now[0])
        raise LedgerUnavailableError("down")

    at_risk = ShardsAtRisk(down, clock=lambda: now[0])
    with at_risk.track(A):
        for now[0] in (0.0, 0.1, 1.9, 2.0, 2.1):
            at_risk.add({A})
    assert attempts == [0.0, 2.0]


def test_only_one_is_at_risk_where_nobody_else_is_touched() -> None:
    """Shards that have been in the model, or that a claim wrote down, are not blamed for one that runs alone."""
    written = WriteLog()
    at_risk = ShardsAtRisk(written)
    with at_risk.track(A, recorded=True), at_risk.track(B):
        at_risk.add({A}, exact=True)
        at_risk.set_only(B)
        at_risk.discard(B)
        at_risk.add({A}, exact=True)
    assert written.lists == [{"b"}, {"a"}]
