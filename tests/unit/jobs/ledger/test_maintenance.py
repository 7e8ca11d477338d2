"""Upkeep's calls: their arguments, and replies as values."""

from __future__ import annotations

from jobs.ledger import maintenance
from jobs.ledger.outcomes import ExpireOutcome, ReturnOutcome
from jobs.ledger.types import DueWork, Message, ShardReturn


def test_a_tick_returns_due_work_or_none() -> None:
    """Nine lists in the order of the fields; an empty reply means that another process ticked."""
    call = maintenance.upkeep_tick(60_000, 30_000, "me")
    names = [[f"{kind}_{n}".encode() for n in range(2)] for kind in "abcdefghi"]

    assert call.args == (60_000, 30_000, "me")
    due = call.parse(names)
    assert due is not None
    assert (due.deadlines, due.queues, due.sweep) == (("a_0", "a_1"), ("d_0", "d_1"), ("i_0", "i_1"))
    assert call.parse([]) is None


def test_an_older_servers_tick_has_no_later_lists() -> None:
    """Fields that were added later are empty then."""
    assert maintenance.upkeep_tick().parse([[]] * 6) == DueWork((), (), (), (), (), ())


def test_due_shards_come_in_threes() -> None:
    """Job, shard, state of each."""
    reply = [b"job_1", b"0", b"r", b"job_2", b"11", b"w"]

    assert maintenance.due_shards("m").parse(reply) == (("job_1", 0, "r"), ("job_2", 11, "w"))
    assert maintenance.due_shards("m").parse([]) == ()


def test_a_returned_shard_has_a_message_if_it_is_published() -> None:
    """The queue is the script's: it knows the job."""
    call = maintenance.reclaim_shard("job_1", 3)

    assert call.parse([b"clean", b"3", b"17", b"q"]) == ShardReturn(
        ReturnOutcome.CLEAN, (Message("q", "job_1", 3, 17),)
    )
    assert call.parse([b"early"]) == ShardReturn(ReturnOutcome.EARLY)
    assert maintenance.republish_deferred("job_1", 3).parse([b"gone"]) == ShardReturn(ReturnOutcome.GONE)


def test_lost_messages_and_turns_are_apart() -> None:
    """Both are to be pushed to the same queue, and counted separately."""
    lost, turns = maintenance.republish_lost("q", 9, 2).parse([[b"job_1", b"0", b"4"], []])

    assert lost == (Message("q", "job_1", 0, 4),)
    assert turns == ()
    assert maintenance.republish_lost("q", 9, 2).args == ("q", 9, 2, maintenance.GRACE_MS)


def test_other_replies() -> None:
    """Numbers, outcomes, and flags that are numbers in arguments."""
    assert maintenance.expire_job("j").parse(b"early") is ExpireOutcome.EARLY
    assert maintenance.drop_stage("j", now=True).args == ("j", 1)
    assert maintenance.drop_stage("j").args == ("j", 0)
    assert maintenance.read_queue_seq("q").parse(b"12") == 12
    assert maintenance.wipe_record("e:1").parse(1) is True
