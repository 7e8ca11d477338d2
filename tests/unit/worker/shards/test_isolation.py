"""The gate is shared, or held by one isolated shard, in turns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic

import pytest

from jobs.ledger import Message
from worker.protocols import Dropped
from worker.shards.isolation import Gate
from worker.shards.leases import Lease


def lease() -> Lease:
    """Return a lease that holds."""
    return Lease(Message("q", "job", 0, 1), "n")


def test_many_share_or_one_is_isolated() -> None:
    """An isolated waiter waits for the sharing shards, newcomers wait behind it, and all get their turn."""
    gate, release, order = Gate(10), Event(), list[str]()

    def share(name: str, wait: bool = False) -> None:
        with gate.shared(lease()):
            order.append(name)
            if wait:
                assert release.wait(5)

    def run_isolated() -> None:
        with gate.isolated(lease()):
            order.append("isolated")

    with ThreadPoolExecutor() as pool:
        inside = [pool.submit(share, name, True) for name in ("a", "b")]
        while len(order) < 2:
            pass
        lonely = pool.submit(run_isolated)
        while not gate._waiting_isolated:
            pass
        late = pool.submit(share, "late")
        release.set()
        for future in (*inside, lonely, late):
            future.result(5)
    assert order[2:] == ["isolated", "late"]


@pytest.mark.parametrize("way", ["shared", "isolated"])
def test_a_waiter_leaves_when_its_lease_ends(way: str) -> None:
    """A cancel or a drain must not wait at the gate; and whoever gave up holds nobody up."""
    gate, ended = Gate(10), lease()
    ended.end_reason = "drain"
    with gate.isolated(lease()), pytest.raises(Dropped), getattr(gate, way)(ended):
        pass
    with gate.shared(lease()):
        pass


def test_shared_work_yields_between_two_steps() -> None:
    """Long work lets an isolated waiter in, and goes on after it, or ends there with its lease."""
    gate, order, isolated_may_end = Gate(10), list[str](), Event()
    mine = lease()

    def long_work() -> None:
        with gate.shared(mine):
            order.append("begin")
            while "isolated" not in order:
                if not gate.is_open:
                    gate.yield_turn(mine)
            order.append("end")

    def run_isolated() -> None:
        with gate.isolated(lease()):
            order.append("isolated")
            assert isolated_may_end.wait(5)
            order.append("isolated ends")

    with ThreadPoolExecutor() as pool:
        work = pool.submit(long_work)
        while not order:
            pass
        other = pool.submit(run_isolated)
        while "isolated" not in order:
            pass
        isolated_may_end.set()
        work.result(5)
        other.result(5)
    assert order == ["begin", "isolated", "isolated ends", "end"]


def test_a_yielding_shard_leaves_when_its_lease_ends() -> None:
    """And whoever comes after it finds the gate as it was."""
    gate, mine, leave = Gate(10), lease(), Event()

    def occupy() -> None:
        with gate.isolated(lease()):
            assert leave.wait(5)

    def work() -> None:
        with gate.shared(mine):
            while gate.is_open:
                pass
            gate.yield_turn(mine)

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        while not gate._sharing:
            pass
        other = pool.submit(occupy)
        while not gate._isolated:
            pass
        mine.end_reason = "stop"
        with pytest.raises(Dropped):
            working.result(5)
        leave.set()
        other.result(5)
    with gate.isolated(lease()):
        pass


def test_suspects_leave_half_of_the_time_to_company() -> None:
    """However many there are, one after the other: in between company has the gate for as long as each took."""
    gate, stop, waits = Gate(0.05), Event(), list[float]()

    def suspect() -> None:
        while not stop.is_set():
            with gate.isolated(lease()):
                while not gate.is_turn_over and not stop.is_set():
                    stop.wait(0.005)

    def company() -> None:
        for _ in range(60):
            began = monotonic()
            with gate.shared(lease()):
                waits.append(monotonic() - began)
                stop.wait(0.005)

    with ThreadPoolExecutor() as pool:
        suspects = [pool.submit(suspect) for _ in range(4)]
        pool.submit(company).result(20)
        stop.set()
        for future in suspects:
            future.result(5)
    assert max(waits) < 1.0
    assert sum(wait < 0.01 for wait in waits) > 20
