from __future__ import annotations

from jobs.ledger import LedgerUnavailableError
from worker.protocols import ShardRef
from worker.shards.crash_suspects import Blame

A, B = ShardRef("a", 0), ShardRef("b", 0)


class Told:
    """What was written down: the names on the list, and those taken off it."""

    def __init__(self) -> None:
        self.lists: list[set[str]] = []
        self.taken_off: list[set[str]] = []

    def __call__(self, at_risk: frozenset[ShardRef], left: frozenset[ShardRef]) -> None:
        self.lists.append({shard.job_id for shard in at_risk})
        self.taken_off.append({shard.job_id for shard in left})


def test_only_what_is_touched_is_at_risk() -> None:
    """A shard is at risk from `enter` to `leave`, again at its next `enter`, and never once it is let go."""
    told = Told()
    blame = Blame(told)
    with blame.hold(A), blame.hold(B):
        blame.enter({A})
        blame.enter({B})
        blame.leave(A)
        blame.enter({B}, exactly=True)
        blame.enter({A})
    blame.enter({A}, exactly=True)  # windows of a shard that was dropped may still come into a forward
    assert told.lists == [{"a"}, {"a", "b"}, {"b"}, {"a", "b"}, set()]
    assert told.taken_off == [set(), set(), {"a"}, set(), {"a", "b"}]


def test_what_a_claim_and_a_completion_said_is_not_said_again() -> None:
    """A shard alone in an idle worker is written down by its claim and taken off by its completion."""
    told = Told()
    blame = Blame(told)
    with blame.hold(A, told=True):
        blame.enter({A})
        blame.leave(A)
        blame.enter({A}, exactly=True)
        blame.leave(A)
        blame.forget(A)
    blame.tidy()
    assert told.lists == []


def test_who_left_stays_on_the_list_until_somebody_minds() -> None:
    """Cutting the next shard does not; a forward does, and who waits for it, and who is let go without an end."""
    told = Told()
    blame = Blame(told)
    with blame.hold(A, told=True):
        blame.leave(A)
        with blame.hold(B, told=True):
            blame.enter({B})
            assert told.lists == []
            blame.tidy()
    blame.tidy()
    assert (told.lists, told.taken_off) == ([{"b"}, set()], [{"a"}, {"b"}])


def test_what_is_at_risk_for_long_is_written_down_again() -> None:
    """The list lapses, and a store may have lost its latest second."""
    now, told = [0.0], Told()
    blame = Blame(told, clock=lambda: now[0])
    with blame.hold(A, told=True):
        for now[0] in (0.0, 59.0, 61.0, 62.0):
            blame.enter({A}, exactly=True)
    assert told.lists == [{"a"}]


def test_a_shard_that_is_held_twice_stays_until_both_let_go() -> None:
    """A lease lost and won again in one process: the old holder's end does not clear the new one."""
    told = Told()
    blame = Blame(told)
    with blame.hold(A):
        with blame.hold(A):
            blame.enter({A})
        blame.enter({A}, exactly=True)
        blame.tidy()
    assert told.lists == [{"a"}]


def test_a_store_that_is_down_is_asked_once_in_a_while() -> None:
    """Every thread of the worker, the model's too, comes through here: none may wait for each other's timeouts."""
    now, asked = [0.0], list[float]()

    def down(*_: frozenset[ShardRef]) -> None:
        asked.append(now[0])
        raise LedgerUnavailableError("down")

    blame = Blame(down, clock=lambda: now[0])
    with blame.hold(A):
        for now[0] in (0.0, 0.1, 1.9, 2.0, 2.1):
            blame.enter({A})
    assert asked == [0.0, 2.0]


def test_only_one_is_at_risk_where_nobody_else_is_touched() -> None:
    """Shards that have been in the model, or that a claim wrote down, are not blamed for one that runs alone."""
    told = Told()
    blame = Blame(told)
    with blame.hold(A, told=True), blame.hold(B):
        blame.enter({A}, exactly=True)
        blame.only(B)
        blame.leave(B)
        blame.enter({A}, exactly=True)
    assert told.lists == [{"b"}, {"a"}]
