from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from jobs.ledger import LedgerUnavailableError, Message
from worker.blame import Blame, Gate
from worker.contract import Dropped, ShardRef
from worker.leases import Lease

A, B = ShardRef("a", 0), ShardRef("b", 0)


def lease() -> Lease:
    """A lease that holds."""
    return Lease(Message("q", "job", 0, 1), "n")


def test_only_what_is_touched_is_at_risk() -> None:
    """A shard is at risk from `enter` to `leave`, again at its next `enter`, and never once it is let go."""
    told: list[frozenset[ShardRef]] = []
    blame = Blame(told.append)
    with blame.hold(A), blame.hold(B):
        blame.enter({A})
        blame.enter({B})
        blame.leave(A)
        blame.enter({B})
        blame.enter({A})
    blame.enter({A})  # windows of a shard that was dropped may still come into a forward
    assert told == [{A}, {A, B}, {B}, {A, B}, set()]


def test_a_shard_that_is_held_twice_stays_until_both_let_go() -> None:
    """A lease lost and won again in one process: the old holder's end does not clear the new one."""
    told: list[frozenset[ShardRef]] = []
    blame = Blame(told.append)
    with blame.hold(A):
        with blame.hold(A):
            blame.enter({A})
        blame.enter({A})
    assert told == [{A}, {A}]


def test_a_store_that_is_down_is_asked_once_in_a_while() -> None:
    """Every thread of the worker, the model's too, comes through here: none may wait for each other's timeouts."""
    now, asked = [0.0], list[float]()

    def down(_: frozenset[ShardRef]) -> None:
        asked.append(now[0])
        raise LedgerUnavailableError("down")

    blame = Blame(down, clock=lambda: now[0])
    with blame.hold(A):
        for now[0] in (0.0, 0.1, 1.9, 2.0, 2.1):
            blame.enter({A})
    assert asked == [0.0, 2.0]


def test_many_in_company_or_one_alone() -> None:
    """Who is alone waits for company to leave, newcomers wait behind it, and all get their turn."""
    gate, release, order = Gate(), Event(), list[str]()

    def company(name: str, wait: bool = False) -> None:
        with gate.company(lease()):
            order.append(name)
            if wait:
                assert release.wait(5)

    def alone() -> None:
        with gate.alone(lease()):
            order.append("alone")

    with ThreadPoolExecutor() as pool:
        inside = [pool.submit(company, name, True) for name in ("a", "b")]
        while len(order) < 2:
            pass
        lonely = pool.submit(alone)
        while not gate._waiting_alone:
            pass
        late = pool.submit(company, "late")
        release.set()
        for future in (*inside, lonely, late):
            future.result(5)
    assert order[2:] == ["alone", "late"]


@pytest.mark.parametrize("way", ["company", "alone"])
def test_who_waits_leaves_when_its_lease_ends(way: str) -> None:
    """A cancel or a drain must not wait at the gate; and whoever gave up holds nobody up."""
    gate, ended = Gate(), lease()
    ended.ended = "drain"
    with gate.alone(lease()), pytest.raises(Dropped), getattr(gate, way)(ended):
        pass
    with gate.company(lease()):
        pass
