"""The ledger's transitions for webhooks: endpoints, and the deliveries that closing a job puts in the outbox.

What an endpoint keeps secret (URL, description, signing secrets) is one blob sealed by the caller at
`place("ep", id)`; the ledger sees events, state and `lane` only: the receiver whose concurrency is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from jobs.ledger.parsing import text
from jobs.ledger.types import Call

Put = Literal["ok", "conflict", "absent", "full", "stored"]
"""What becomes of an endpoint that is made or changed."""
MAX_ENDPOINTS = 100
"""Most endpoints a tenant may register; those of single jobs are not counted."""
PER_MESSAGE = 16
"""Most deliveries to one receiver in a message: Celery's own cost is most of a small delivery's."""
AGAIN_MS = 60_000
"""A delivery that was handed out and not claimed comes up again after this long."""
ONLY_FAILURES_MS = 120 * 3600 * 1000
"""After so long with nothing but failures an endpoint is disabled."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver of webhooks as stored. Times in UTC ms.

    Attributes:
        rev: version; a change names the one it was made from.
        sealed: encoded URL, description and secrets.
        events: those it hears of; empty: all.
        kind: `url` (registered) or `inline` (of one job).
        every: it hears of every job of its tenant, not only of those that name it.
        reason: why it is disabled: by_owner, gone, asked, only_failures.
        now: the ledger's time when it was read.
    """

    id: str
    tenant: str
    rev: int
    sealed: bytes
    events: tuple[str, ...]
    kind: Literal["url", "inline"]
    every: bool
    lane: str
    state: Literal["active", "disabled"]
    created: int
    now: int
    reason: str | None = None
    disabled_at: int | None = None
    last_ok: int | None = None
    last_fail: int | None = None
    fails: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One HTTP try. `status` 0: no answer; `error` "": a 2xx; `body`: encoded start of what was answered."""

    at: int
    status: int
    ms: int
    error: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint, with every attempt of the last seven days and more."""

    id: str
    endpoint: str
    tenant: str
    job: str
    event: str
    state: Literal["due", "flying", "delivered", "failed"]
    created: int
    next_at: int | None
    ended_at: int | None
    attempts: tuple[DeliveryAttempt, ...]


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """What one attempt needs; only `run` is to be tried.

    Attributes:
        attempts: attempts that count for the schedule so far.
        payload: the event frozen when the job ended; stored once for all of its deliveries.
        meta: the job's metadata as a blob at `place("meta", job)`, or b"": it has none, or was erased.
        sealed: the endpoint's blob.
        trace: W3C traceparent that the job was made under, or "".
        tenant: whose delivery it is.
    """

    kind: Literal["run", "gone", "done", "leased", "early", "held", "busy"]
    now: int = 0
    endpoint: str = ""
    job: str = ""
    event: str = ""
    payload: bytes = b""
    meta: bytes = b""
    attempts: int = 0
    sealed: bytes = b""
    created: int = 0
    trace: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class DueDeliveries:
    """Deliveries to try now, message by message; how many endpoints are disabled; and is more due at once."""

    messages: tuple[tuple[str, ...], ...]
    disabled: int
    more: bool


@dataclass(frozen=True, slots=True)
class DeliveriesPage:
    """Deliveries, newest first, and where the next page begins: (time, how many of that time to skip)."""

    deliveries: tuple[Delivery, ...]
    next: tuple[int, int] | None


# Endpoints


def upsert_endpoint(
    endpoint: Endpoint, *, ttl_ms: int = 0, most: int = MAX_ENDPOINTS, job: str = "", max_stored_bytes: int = 0
) -> Call[Put]:
    """Make an endpoint (`rev` 0) or change it as it was read; `full` and `stored` are the two limits.

    Args:
        endpoint: as it is to be.
        ttl_ms: an inline one is kept for this long unless its job ends.
        most: endpoints of its kind that the tenant may have; of inline ones the open count, and 0 is no limit.
        job: an inline one's.
        max_stored_bytes: what its tenant may keep in all; 0 is no limit.
    """
    args = (
        endpoint.id,
        endpoint.tenant,
        endpoint.rev,
        endpoint.sealed,
        ",".join(endpoint.events),
        endpoint.state,
        endpoint.kind,
        "1" if endpoint.every else "0",
        endpoint.lane,
        ttl_ms,
        most,
        job,
        max_stored_bytes,
    )
    return Call("upsert_endpoint", args, text)  # type: ignore[arg-type]  # a script's word


def read_endpoint(endpoint: str) -> Call[Endpoint | None]:
    """An endpoint, whoever's it is."""
    return Call("read_endpoint", (endpoint,), lambda r: _endpoint(endpoint, int(r[0]), r[1:]))


def list_endpoints(tenant: str) -> Call[tuple[Endpoint, ...]]:
    """A tenant's registered endpoints, oldest first."""

    def parse(reply: list[Any]) -> tuple[Endpoint, ...]:
        found = (_endpoint(text(ep), int(reply[0]), flat) for ep, flat in reply[1:])
        return tuple(endpoint for endpoint in found if endpoint is not None)

    return Call("list_endpoints", (tenant,), parse)


def delete_endpoint(endpoint: str) -> Call[bool]:
    """Forget an endpoint and all that was to be delivered to it; True if it was there."""
    return Call("delete_endpoint", (endpoint,), bool)


# A courier's


def take_due_deliveries(
    room: int,
    cap: int,
    again_ms: int = AGAIN_MS,
    most: int = PER_MESSAGE,
    *,
    courier: str = "",
    slots: int = 0,
) -> Call[DueDeliveries]:
    """Hand out at most `room` messages of deliveries, tenants in turns.

    Args:
        room: messages that the queue has room for; 0 only makes the caller's slots known.
        cap: messages that one receiver may have at once.
        again_ms: a delivery that is not claimed for this long is handed out again.
        most: deliveries in one message.
        courier: a name of the calling process; its slots are shared among the tenants.
        slots: deliveries that the calling process can have under way.
    """

    def parse(reply: list[Any]) -> DueDeliveries:
        messages = tuple(tuple(map(text, message)) for message in reply[2:])
        return DueDeliveries(messages, int(reply[0]), more=bool(reply[1]))

    return Call("take_due_deliveries", (room, cap, again_ms, most, courier, slots), parse)


def claim_delivery(delivery: str, nonce: str, lease_ms: int, cap: int) -> Call[DeliveryClaim]:
    """Take a delivery for one attempt of at most `lease_ms`."""

    def parse(reply: list[Any]) -> DeliveryClaim:
        kind = text(reply[0])
        if kind != "run":
            return DeliveryClaim(kind)  # type: ignore[arg-type]  # a script's word
        now, endpoint, job, event, payload, meta, tried, sealed, created, trace, tenant = reply[1:]
        return DeliveryClaim(
            "run",
            int(now),
            text(endpoint),
            text(job),
            text(event),
            payload,
            meta,
            int(tried),
            sealed,
            int(created),
            text(trace),
            text(tenant),
        )

    return Call("claim_delivery", (delivery, nonce, lease_ms, cap), parse)


def record_delivery(
    delivery: str,
    nonce: str,
    outcome: Literal["delivered", "retry", "failed"],
    attempt: DeliveryAttempt,
    *,
    delay_ms: int = 0,
    disable: str = "",
    only_failures_ms: int = ONLY_FAILURES_MS,
) -> Call[tuple[str, str]]:
    """Store an attempt; (outcome, or already, stale, gone; why the endpoint is disabled from now on, or "")."""
    facts = {"at": attempt.at, "status": attempt.status, "ms": attempt.ms, "error": attempt.error}
    args = (
        delivery,
        nonce,
        outcome,
        delay_ms,
        orjson.dumps(facts),
        attempt.body,
        disable,
        only_failures_ms,
    )
    return Call("record_delivery", args, lambda r: (text(r[0]), text(r[1])))


def return_deliveries(deliveries: Sequence[str]) -> Call[None]:
    """Deliveries that were handed out and not tried come up again at once."""
    return Call("return_deliveries", tuple(deliveries), lambda _: None)


# A client's


def read_delivery(delivery: str) -> Call[Delivery | None]:
    """A delivery, whoever's it is."""

    def parse(reply: list[Any]) -> Delivery | None:
        return _delivery(delivery, reply[0], reply[1]) if reply else None

    return Call("read_delivery", (delivery,), parse)


def list_deliveries(
    endpoint: str, start: tuple[int, int] | None, limit: int, state: str | None = None
) -> Call[DeliveriesPage]:
    """An endpoint's deliveries, newest first, from where the page before ended."""
    before, skip = ("+inf", 0) if start is None else start

    def parse(reply: list[Any]) -> DeliveriesPage:
        following = (int(reply[0]), int(reply[1])) if reply[0] else None
        return DeliveriesPage(tuple(_delivery(text(row[0]), row[1], row[2]) for row in reply[2:]), following)

    return Call("list_deliveries", (endpoint, before, skip, limit, state or ""), parse)


def redeliver(delivery: str) -> Call[Literal["queued", "disabled", "flying", "absent"]]:
    """Try a delivery again at once, whatever came of it, with its whole schedule before it."""
    return Call("redeliver", (delivery,), text)  # type: ignore[arg-type]  # a script's word


def recover_deliveries(endpoint: str, since: int, skip: int = 0) -> Call[tuple[int, int]]:
    """Try again what failed since a time: (queued, looked at), 500 a call; (-1, 0): the endpoint is disabled."""
    return Call("recover_deliveries", (endpoint, since, skip), lambda r: (int(r[0]), int(r[1])))


def _fields(flat: Sequence[bytes]) -> Mapping[str, bytes]:
    return {text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}


def _endpoint(endpoint: str, now: int, flat: Sequence[bytes]) -> Endpoint | None:
    h = _fields(flat)
    if "tenant" not in h:
        return None

    def time(name: str) -> int | None:
        return int(h.get(name) or 0) or None

    return Endpoint(
        id=endpoint,
        tenant=text(h["tenant"]),
        rev=int(h["rev"]),
        sealed=h["sealed"],
        events=tuple(filter(None, text(h["events"]).split(","))),
        kind=text(h["kind"]),  # type: ignore[arg-type]  # a script's word
        every=h["every"] == b"1",
        lane=text(h["lane"]),
        state=text(h["state"]),  # type: ignore[arg-type]  # a script's word
        created=int(h["created"]),
        now=now,
        reason=text(h["reason"]) if h.get("reason") else None,
        disabled_at=time("disabled_at"),
        last_ok=time("last_ok"),
        last_fail=time("last_fail"),
        fails=int(h.get("fails") or 0),
    )


def _delivery(delivery: str, flat: Sequence[bytes], attempts: Sequence[bytes]) -> Delivery:
    h = _fields(flat)
    state = text(h["state"])
    return Delivery(
        id=delivery,
        endpoint=text(h["ep"]),
        tenant=text(h["tenant"]),
        job=text(h["job"]),
        event=text(h["event"]),
        state=state,  # type: ignore[arg-type]  # a script's word
        created=int(h["created"]),
        next_at=int(h["next"]) if state == "due" else None,
        ended_at=int(h.get("ended") or 0) or None,
        attempts=tuple(map(_attempt, attempts)),
    )


def _attempt(entry: bytes) -> DeliveryAttempt:
    head, _, body = entry.partition(b"\n")
    facts = orjson.loads(head)
    return DeliveryAttempt(int(facts["at"]), int(facts["status"]), int(facts["ms"]), facts["error"], body)
