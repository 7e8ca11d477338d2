"""The ledger's transitions for webhooks: endpoints, and the deliveries that closing a job writes to the outbox.

An endpoint's secrets (URL, description, signing secrets) are one blob that the caller seals for
`associated_data("ep", id)`. The ledger sees events, state and `lane`: the receiver whose concurrency is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from jobs.ledger.outcomes import DeliveryOutcome, EndpointOutcome, RedeliverOutcome
from jobs.ledger.parsing import enum_parser, to_text
from jobs.ledger.types import Call

MAX_ENDPOINTS = 100
"""Maximum endpoints that a tenant may register; endpoints of single jobs are not counted."""
PER_MESSAGE = 16
"""Maximum deliveries to one receiver in a message: most of a small delivery's cost is Celery's."""
AGAIN_MS = 60_000
"""Time after which a delivery that was handed out and not claimed is due again."""
ONLY_FAILURES_MS = 120 * 3600 * 1000
"""Time after which an endpoint with nothing but failures is disabled."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver of webhooks as stored. Times in UTC ms.

    Attributes:
        rev: version; a change names the version it was made from.
        sealed: encoded URL, description and secrets.
        events: events it receives; empty: all.
        kind: `url` (registered) or `inline` (of one job).
        every: it receives events of every job of its tenant, not only of jobs that name it.
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
    """One HTTP attempt. `status` 0: no response; `error` "": a 2xx; `body`: encoded start of the response."""

    at: int
    status: int
    ms: int
    error: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint, with its latest attempts."""

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
    """A delivery claimed for one attempt; only RUN carries it.

    Attributes:
        attempts: attempts so far that count for the schedule.
        payload: the event, frozen when the job ended; stored once for all of its deliveries.
        meta: the job's metadata as a blob of `associated_data("meta", job)`; b"" if it has none or was erased.
        sealed: the endpoint's blob.
        trace: W3C traceparent that the job was created under, or "".
        tenant: the endpoint's tenant.
    """

    kind: DeliveryOutcome
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
    """Deliveries to try now, by message; the number of disabled endpoints; and True if more is due at once."""

    messages: tuple[tuple[str, ...], ...]
    disabled: int
    more: bool


@dataclass(frozen=True, slots=True)
class DeliveriesPage:
    """Deliveries, newest first; `next` is the start of the next page: (time, deliveries of that time to skip)."""

    deliveries: tuple[Delivery, ...]
    next: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class CourierSlots:
    """A courier process and the number of deliveries that it runs at once, which tenants share."""

    courier: str = ""
    slots: int = 0


@dataclass(frozen=True, slots=True)
class AttemptVerdict:
    """The consequences of an attempt.

    Attributes:
        delay_ms: time until the next attempt, with `retry`.
        disable: why the endpoint is disabled from now on, or "".
    """

    outcome: Literal["delivered", "retry", "failed"]
    delay_ms: int = 0
    disable: str = ""


# Endpoints


def upsert_endpoint(
    endpoint: Endpoint, *, ttl_ms: int = 0, most: int = MAX_ENDPOINTS, job: str = "", max_stored_bytes: int = 0
) -> Call[EndpointOutcome]:
    """Create an endpoint (`rev` 0) or update the version that was read.

    Args:
        endpoint: the endpoint to store.
        ttl_ms: lifetime of an inline endpoint whose job does not end.
        most: maximum endpoints of its kind per tenant; of inline endpoints only open ones count, and 0 is no limit.
        job: the job of an inline endpoint.
        max_stored_bytes: storage limit of its tenant; 0 is no limit.
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
    return Call("upsert_endpoint", args, enum_parser(EndpointOutcome))


def read_endpoint(endpoint: str) -> Call[Endpoint | None]:
    """Read an endpoint of any tenant."""
    return Call("read_endpoint", (endpoint,), lambda r: _parse_endpoint(endpoint, int(r[0]), r[1:]))


def list_endpoints(tenant: str) -> Call[tuple[Endpoint, ...]]:
    """List a tenant's registered endpoints, oldest first."""

    def parse(reply: list[Any]) -> tuple[Endpoint, ...]:
        endpoints = (_parse_endpoint(to_text(ep), int(reply[0]), flat) for ep, flat in reply[1:])
        return tuple(endpoint for endpoint in endpoints if endpoint is not None)

    return Call("list_endpoints", (tenant,), parse)


def delete_endpoint(endpoint: str) -> Call[bool]:
    """Remove an endpoint and its deliveries; True if it existed."""
    return Call("delete_endpoint", (endpoint,), bool)


# A courier's


def take_due_deliveries(
    max_messages: int,
    cap: int,
    again_ms: int = AGAIN_MS,
    most: int = PER_MESSAGE,
    courier: CourierSlots = CourierSlots(),
) -> Call[DueDeliveries]:
    """Take due deliveries, tenants in turn.

    Args:
        max_messages: maximum messages to return; 0 only announces the courier's slots.
        cap: maximum messages per receiver at once.
        again_ms: time after which a delivery that was not claimed is due again.
        most: maximum deliveries per message.
        courier: the calling process.
    """

    def parse(reply: list[Any]) -> DueDeliveries:
        messages = tuple(tuple(map(to_text, message)) for message in reply[2:])
        return DueDeliveries(messages, int(reply[0]), more=bool(reply[1]))

    args = (max_messages, cap, again_ms, most, courier.courier, courier.slots)
    return Call("take_due_deliveries", args, parse)


def claim_delivery(delivery: str, nonce: str, lease_ms: int, cap: int) -> Call[DeliveryClaim]:
    """Claim a delivery for one attempt of at most `lease_ms`."""

    def parse(reply: list[Any]) -> DeliveryClaim:
        kind = DeliveryOutcome(to_text(reply[0]))
        if kind is not DeliveryOutcome.RUN:
            return DeliveryClaim(kind)
        now, endpoint, job, event, payload, meta, attempts, sealed, created, trace, tenant = reply[1:]
        return DeliveryClaim(
            kind,
            int(now),
            to_text(endpoint),
            to_text(job),
            to_text(event),
            payload,
            meta,
            int(attempts),
            sealed,
            int(created),
            to_text(trace),
            to_text(tenant),
        )

    return Call("claim_delivery", (delivery, nonce, lease_ms, cap), parse)


def record_delivery(
    delivery: str,
    nonce: str,
    verdict: AttemptVerdict,
    attempt: DeliveryAttempt,
    only_failures_ms: int = ONLY_FAILURES_MS,
) -> Call[tuple[str, str]]:
    """Store an attempt; return (outcome, or already, stale, gone; why the endpoint is now disabled, or "")."""
    facts = {"at": attempt.at, "status": attempt.status, "ms": attempt.ms, "error": attempt.error}
    args = (
        *(delivery, nonce, verdict.outcome, verdict.delay_ms, orjson.dumps(facts), attempt.body),
        *(verdict.disable, only_failures_ms),
    )
    return Call("record_delivery", args, lambda r: (to_text(r[0]), to_text(r[1])))


def return_deliveries(deliveries: Sequence[str]) -> Call[None]:
    """Make deliveries that were taken and not tried due again at once."""
    return Call("return_deliveries", tuple(deliveries), lambda _: None)


# A client's


def read_delivery(delivery: str) -> Call[Delivery | None]:
    """Read a delivery of any tenant."""

    def parse(reply: list[Any]) -> Delivery | None:
        return _parse_delivery(delivery, reply[0], reply[1]) if reply else None

    return Call("read_delivery", (delivery,), parse)


def list_deliveries(
    endpoint: str, start: tuple[int, int] | None, limit: int, state: str | None = None
) -> Call[DeliveriesPage]:
    """List an endpoint's deliveries, newest first, from the end of the previous page."""
    before, skip = ("+inf", 0) if start is None else start

    def parse(reply: list[Any]) -> DeliveriesPage:
        following = (int(reply[0]), int(reply[1])) if reply[0] else None
        return DeliveriesPage(
            tuple(_parse_delivery(to_text(row[0]), row[1], row[2]) for row in reply[2:]), following
        )

    return Call("list_deliveries", (endpoint, before, skip, limit, state or ""), parse)


def redeliver(delivery: str) -> Call[RedeliverOutcome]:
    """Make a delivery in any state due at once, and restart its schedule."""
    return Call("redeliver", (delivery,), enum_parser(RedeliverOutcome))


def recover_deliveries(endpoint: str, since: int, skip: int = 0) -> Call[tuple[int, int]]:
    """Retry deliveries that failed since a time, 500 per call; return (queued, examined), (-1, 0) if disabled."""
    return Call("recover_deliveries", (endpoint, since, skip), lambda r: (int(r[0]), int(r[1])))


def _parse_fields(flat: Sequence[bytes]) -> Mapping[str, bytes]:
    return {to_text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}


def _parse_endpoint(endpoint: str, now: int, flat: Sequence[bytes]) -> Endpoint | None:
    fields = _parse_fields(flat)
    if "tenant" not in fields:
        return None

    def time(name: str) -> int | None:
        return int(fields.get(name) or 0) or None

    return Endpoint(
        id=endpoint,
        tenant=to_text(fields["tenant"]),
        rev=int(fields["rev"]),
        sealed=fields["sealed"],
        events=tuple(filter(None, to_text(fields["events"]).split(","))),
        kind=to_text(fields["kind"]),  # type: ignore[arg-type]  # written by upsert_endpoint
        every=fields["every"] == b"1",
        lane=to_text(fields["lane"]),
        state=to_text(fields["state"]),  # type: ignore[arg-type]  # written by upsert_endpoint
        created=int(fields["created"]),
        now=now,
        reason=to_text(fields["reason"]) if fields.get("reason") else None,
        disabled_at=time("disabled_at"),
        last_ok=time("last_ok"),
        last_fail=time("last_fail"),
        fails=int(fields.get("fails") or 0),
    )


def _parse_delivery(delivery: str, flat: Sequence[bytes], attempts: Sequence[bytes]) -> Delivery:
    fields = _parse_fields(flat)
    state = to_text(fields["state"])
    return Delivery(
        id=delivery,
        endpoint=to_text(fields["ep"]),
        tenant=to_text(fields["tenant"]),
        job=to_text(fields["job"]),
        event=to_text(fields["event"]),
        state=state,  # type: ignore[arg-type]  # written by upsert_endpoint
        created=int(fields["created"]),
        next_at=int(fields["next"]) if state == "due" else None,
        ended_at=int(fields.get("ended") or 0) or None,
        attempts=tuple(map(_parse_attempt, attempts)),
    )


def _parse_attempt(entry: bytes) -> DeliveryAttempt:
    head, _, body = entry.partition(b"\n")
    facts = orjson.loads(head)
    return DeliveryAttempt(int(facts["at"]), int(facts["status"]), int(facts["ms"]), facts["error"], body)
