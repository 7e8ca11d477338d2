"""Calls for endpoints and deliveries: their arguments, and replies as values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.ledger import webhooks
from jobs.ledger.outcomes import DeliveryOutcome
from jobs.ledger.webhooks import AttemptVerdict, CourierSlots, DeliveryAttempt, DeliveryClaim, Endpoint

ENDPOINT = Endpoint(
    id="ep_1", tenant="t1", rev=2, sealed=b"sealed", events=("job.failed",), kind="url", every=True, lane="l",
    state="active", created=1000, now=2000,
)  # fmt: skip
FIELDS = {
    "tenant": b"t1", "rev": b"2", "sealed": b"sealed", "events": b"job.failed", "kind": b"url", "every": b"1",
    "lane": b"l", "state": b"active", "created": b"1000",
}  # fmt: skip
DELIVERY = {
    "ep": b"ep_1", "tenant": b"t1", "job": b"job_1", "event": b"job.failed", "state": b"due", "created": b"5",
    "next": b"7",
}  # fmt: skip


def flatten(fields: dict[str, bytes]) -> list[bytes]:
    """Return fields as HGETALL does."""
    return [part for name, value in fields.items() for part in (name.encode(), value)]


def test_an_endpoint_is_read_as_it_was_stored() -> None:
    """Empty and missing times are None; an unknown endpoint has no fields."""
    call = webhooks.read_endpoint("ep_1")

    assert call.parse([b"2000", *flatten(FIELDS)]) == ENDPOINT
    disabled = {"state": b"disabled", "reason": b"gone", "disabled_at": b"1500", "last_ok": b"", "fails": b"3"}
    assert call.parse([b"2000", *flatten(FIELDS | disabled | {"every": b"0", "events": b""})]) == replace(
        ENDPOINT, state="disabled", reason="gone", disabled_at=1500, fails=3, every=False, events=()
    )
    assert call.parse([b"2000"]) is None


def test_endpoints_that_expired_meanwhile_are_left_out() -> None:
    """The list names them, and their record is gone."""
    reply = [b"2000", [b"ep_1", flatten(FIELDS)], [b"ep_2", []]]

    assert webhooks.list_endpoints("t1").parse(reply) == (ENDPOINT,)


def test_an_endpoint_is_stored_with_its_terms() -> None:
    """Events are one argument, flags are 0 or 1."""
    args = webhooks.upsert_endpoint(
        replace(ENDPOINT, every=False, events=("a", "b")), ttl_ms=9, most=5, job="j"
    ).args

    assert args[:9] == ("ep_1", "t1", 2, b"sealed", "a,b", "active", "url", "0", "l")
    assert args[9:] == (9, 5, "j", 0)


def test_due_deliveries_by_message() -> None:
    """Disabled endpoints, whether more is due, and the messages."""
    call = webhooks.take_due_deliveries(10, 4, courier=CourierSlots("c", 8))
    due = call.parse([b"3", 1, [b"dlv_1", b"dlv_2"], [b"dlv_3"]])

    assert call.args == (10, 4, webhooks.AGAIN_MS, webhooks.PER_MESSAGE, "c", 8)
    assert (due.messages, due.disabled, due.more) == ((("dlv_1", "dlv_2"), ("dlv_3",)), 3, True)
    assert call.parse([b"0", 0]).messages == ()


def test_a_claim_carries_the_delivery_only_to_run_it() -> None:
    """Any other answer is its kind alone."""
    call = webhooks.claim_delivery("dlv_1", "n", 30_000, 4)
    reply = [b"run", 9, b"ep_1", b"job_1", b"job.failed", b"{}", b"m", 2, b"s", 5, b"00-a", b"t1"]

    assert call.parse(reply) == DeliveryClaim(
        DeliveryOutcome.RUN, 9, "ep_1", "job_1", "job.failed", b"{}", b"m", 2, b"s", 5, "00-a", "t1"
    )
    assert call.parse([b"busy"]) == DeliveryClaim(DeliveryOutcome.BUSY)


def test_an_attempt_is_read_as_it_was_recorded() -> None:
    """The response's bytes follow the facts, and may be anything, line ends included."""
    attempt = DeliveryAttempt(at=5, status=503, ms=20, error="status", body=b"\x00\n\nbusy")
    args = webhooks.record_delivery("dlv_1", "n", AttemptVerdict("retry", 100, "gone"), attempt).args
    assert args[:4] == ("dlv_1", "n", "retry", 100)
    assert args[6:] == ("gone", webhooks.ONLY_FAILURES_MS)

    stored = bytes(args[4]) + b"\n" + bytes(args[5])  # type: ignore[arg-type]  # as record_delivery.lua joins them
    delivery = webhooks.read_delivery("dlv_1").parse([flatten(DELIVERY), [stored]])
    assert delivery is not None
    assert delivery.attempts == (attempt,)


@pytest.mark.parametrize(
    ("changes", "next_at", "ended_at"),
    [({}, 7, None), ({"state": b"delivered", "ended": b"9"}, None, 9), ({"state": b"flying"}, None, None)],
)
def test_only_a_due_delivery_has_a_next_attempt(
    changes: dict[str, bytes], next_at: int | None, ended_at: int | None
) -> None:
    """The time of an earlier plan is still stored."""
    delivery = webhooks.read_delivery("dlv_1").parse([flatten(DELIVERY | changes), []])

    assert delivery is not None
    assert (delivery.next_at, delivery.ended_at) == (next_at, ended_at)
    assert webhooks.read_delivery("dlv_1").parse([]) is None


def test_pages_of_deliveries() -> None:
    """The first page begins at the newest; the last one has no next."""
    row = [b"dlv_1", flatten(DELIVERY), []]

    assert webhooks.list_deliveries("ep_1", None, 10).args == ("ep_1", "+inf", 0, 10, "")
    assert webhooks.list_deliveries("ep_1", (5, 2), 10, "failed").args == ("ep_1", 5, 2, 10, "failed")
    page = webhooks.list_deliveries("ep_1", None, 1).parse([b"5", b"1", row])
    assert ([delivery.id for delivery in page.deliveries], page.next) == (["dlv_1"], (5, 1))
    assert webhooks.list_deliveries("ep_1", None, 1).parse([b"", b"", row]).next is None
