"""The registry of receivers: who is told, where, about what, and with which secret it is signed.

URL, description and secrets are one sealed blob per endpoint: a URL often is a secret itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import orjson

from gateway.access.rate_limits import stored_quota_problem
from gateway.http.problems import Problem
from gateway.webhooks import payload, signing
from gateway.webhooks.addresses import NOT_PUBLIC, ForbiddenTargetError, Target
from gateway.webhooks.dns import LOOKUP_S
from gateway.webhooks.schedule import Answer
from gateway.webhooks.sender import Sender
from gateway.webhooks.tenant_slots import TenantSlots
from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import AsyncLedger, associated_data, webhooks
from jobs.ledger.outcomes import EndpointOutcome
from jobs.ledger.webhooks import Endpoint

OVERLAP_MS = 24 * 3600 * 1000
"""After a rotation the old secret signs along for this long."""
INLINE_TTL_MS = 8 * 24 * 3600 * 1000
"""A job's own endpoint outlives the job's deadline by this; the job's end sets another time."""
_OLD_SECRETS = 4
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret; `until` (UTC ms) is None for the current one."""

    value: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What of an endpoint is sealed; the current secret comes first."""

    url: str
    description: str
    secrets: tuple[Secret, ...]

    def signing(self, now: int) -> list[str]:
        """The secrets that sign at this time."""
        return [secret.value for secret in self.secrets if secret.until is None or secret.until > now]

    def seal(self, codec: Codec, endpoint: str) -> bytes:
        """The card as stored."""
        rows = [[secret.value, secret.until] for secret in self.secrets]
        content = orjson.dumps({"url": self.url, "description": self.description, "secrets": rows})
        return codec.encode(content, associated_data("ep", endpoint))

    @classmethod
    def open(cls, codec: Codec, endpoint: str, sealed: bytes) -> Card:
        """What `seal` made.

        Raises:
            CodecError: it cannot be read.
        """
        content = orjson.loads(codec.decode(sealed, associated_data("ep", endpoint)))
        return cls(content["url"], content["description"], tuple(Secret(*row) for row in content["secrets"]))


@dataclass(frozen=True, slots=True)
class Known:
    """An endpoint of the caller's tenant, opened."""

    record: Endpoint
    card: Card


@dataclass(frozen=True, slots=True)
class Changes:
    """What a PATCH asks for; None leaves a thing as it is."""

    url: str | None = None
    description: str | None = None
    events: tuple[str, ...] | None = None
    every: bool | None = None
    active: bool | None = None


class Endpoints:
    """Reads and changes endpoints for tenants.

    Args:
        store: the ledger.
        codec: seals cards.
        sender: checks URLs, and sends tests.
        most_inline: open endpoints of single jobs that a tenant may have; 0 is no limit.
    """

    def __init__(self, store: AsyncLedger, codec: Codec, sender: Sender, most_inline: int = 0) -> None:
        self._store = store
        self._most_inline = most_inline
        self._codec = codec
        self._sender = sender
        # Look-ups and tests wait for strangers: never in threads that anything else needs, nor in each other's; and
        # one tenant's never in all of them.
        self._checks = ThreadPoolExecutor(16, thread_name_prefix="webhook-check")
        self._tests = ThreadPoolExecutor(16, thread_name_prefix="webhook-test")
        self._checking, self._testing = TenantSlots(4), TenantSlots(2)

    async def create(
        self,
        tenant: str,
        url: str,
        description: str,
        events: Sequence[str],
        secret: str | None,
        *,
        every: bool,
        max_stored_bytes: int = 0,
    ) -> Known:
        """Register an endpoint.

        Raises:
            Problem: webhook_url_forbidden, or quota_exceeded.
        """
        target = await self._check(tenant, url, "/url")
        card = Card(url, description, (Secret(secret or signing.new_secret()),))
        record = _new(tenant, target, "url", events, every=every)
        return await self._put(record, card, max_stored_bytes=max_stored_bytes)

    async def inline(
        self,
        tenant: str,
        job: str,
        url: str,
        events: Sequence[str],
        secret: str | None,
        deadline_s: float,
        *,
        max_stored_bytes: int = 0,
    ) -> Known:
        """Make an endpoint for one job, gone an hour after that was delivered, and with the job's DELETE.

        Raises:
            Problem: webhook_url_forbidden, or quota_exceeded.
        """
        target = await self._check(tenant, url, "/webhook/url")
        card = Card(url, "", (Secret(secret or signing.new_secret()),))
        record = _new(tenant, target, "inline", events, every=False)
        stored = replace(record, sealed=card.seal(self._codec, record.id))
        ttl_ms = int(deadline_s * 1000) + INLINE_TTL_MS
        call = webhooks.upsert_endpoint(
            stored, ttl_ms=ttl_ms, most=self._most_inline, job=job, max_stored_bytes=max_stored_bytes
        )
        full = (
            f"{self._most_inline} webhooks of single jobs of your tenant wait for their job or their receiver, the "
            "most there may be; register an endpoint (POST /v1/webhook-endpoints) and name it in "
            "`webhook.endpoint_id`"
        )
        await self._made(call, tenant, full, max_stored_bytes, {"Retry-After": "30"})
        return Known(stored, card)

    async def get(self, tenant: str, endpoint: str) -> Known:
        """The tenant's endpoint.

        Raises:
            Problem: endpoint_not_found.
        """
        record = await self._store.run(webhooks.read_endpoint(endpoint))
        if record is None or record.tenant != tenant:
            raise _absent()
        return self._open(record)

    async def registered(self, tenant: str) -> list[Known]:
        """The tenant's registered endpoints, oldest first."""
        return [self._open(record) for record in await self._store.run(webhooks.list_endpoints(tenant))]

    async def change(self, tenant: str, endpoint: str, changes: Changes) -> Known:
        """Change what is given; one that is made active again gets what waited.

        Raises:
            Problem: endpoint_not_found or webhook_url_forbidden.
        """
        target = None if changes.url is None else await self._check(tenant, changes.url, "/url")

        def apply(known: Known) -> Known:
            record, card = known.record, known.card
            if changes.events is not None:
                record = replace(record, events=changes.events)
            if changes.every is not None and record.kind == "url":
                record = replace(record, every=changes.every)
            if changes.active is not None:
                record = replace(record, state="active" if changes.active else "disabled")
            if target is not None and changes.url is not None:
                record, card = replace(record, lane=_lane(tenant, target)), replace(card, url=changes.url)
            if changes.description is not None:
                card = replace(card, description=changes.description)
            return Known(record, card)

        return await self._update(tenant, endpoint, apply)

    async def rotate(self, tenant: str, endpoint: str, secret: str | None) -> Known:
        """A new current secret; the old ones sign along for 24 h from when each was replaced.

        Raises:
            Problem: endpoint_not_found.
        """
        fresh = secret or signing.new_secret()

        def apply(known: Known) -> Known:
            now = known.record.now
            if known.card.secrets[0].value == fresh:
                return known
            old = [
                replace(each, until=each.until or now + OVERLAP_MS)
                for each in known.card.secrets
                if each.value != fresh and (each.until is None or each.until > now)
            ]
            return Known(known.record, replace(known.card, secrets=(Secret(fresh), *old[:_OLD_SECRETS])))

        return await self._update(tenant, endpoint, apply)

    async def delete(self, tenant: str, endpoint: str) -> None:
        """Forget the endpoint and what was still to be delivered to it.

        Raises:
            Problem: endpoint_not_found.
        """
        await self.get(tenant, endpoint)
        await self._store.run(webhooks.delete_endpoint(endpoint))

    async def test(self, tenant: str, endpoint: str) -> Answer:
        """Send a signed `webhook.test` now, and say what came back; nothing is stored or repeated.

        Raises:
            Problem: endpoint_not_found, or rate_limited while two of the tenant's tests are under way.
        """
        known = await self.get(tenant, endpoint)
        if not self._testing.take(tenant):
            raise Problem(
                "rate_limited", "two of your tenant's tests wait for their receivers", headers={"Retry-After": "15"}
            )
        began = time.monotonic()
        now = known.record.now
        body = payload.test_event(endpoint, now)
        headers = signing.headers(f"test_{secrets.token_hex(16)}", now // 1000, body, known.card.signing(now))
        running = asyncio.get_running_loop().run_in_executor(
            self._tests, self._sender.post, tenant, known.card.url, headers, body
        )
        running.add_done_callback(lambda _: self._testing.give_back(tenant))
        answer = await asyncio.shield(running)
        if answer.error == "address_forbidden":
            await _sleep_until(began)
        return answer

    async def _check(self, tenant: str, url: str, at: str) -> Target:
        """Take the URL apart and look its name up; one that is not answered in time passes: attempts look again.

        Raises:
            Problem: webhook_url_forbidden.
        """
        began = time.monotonic()
        try:
            target = self._sender.read(url, tenant)
            await self._look_up(target, tenant, began)
        except ForbiddenTargetError as error:
            if error.reason == NOT_PUBLIC:
                await _sleep_until(began)
            raise Problem("webhook_url_forbidden", f"the URL {error.reason}", [(at, error.reason)]) from None
        return target

    async def _look_up(self, target: Target, tenant: str, began: float) -> None:
        if not await self._checking.wait(tenant, LOOKUP_S):
            return
        running = asyncio.get_running_loop().run_in_executor(self._checks, self._sender.check, target, tenant)

        def release(ended: asyncio.Future[None]) -> None:
            self._checking.give_back(tenant)
            ended.exception()  # nobody may be left to read it

        running.add_done_callback(release)
        done, _ = await asyncio.wait([running], timeout=max(0.1, began + LOOKUP_S + 0.5 - time.monotonic()))
        for finished in done:
            finished.result()

    async def _put(self, record: Endpoint, card: Card, *, max_stored_bytes: int) -> Known:
        stored = replace(record, sealed=card.seal(self._codec, record.id))
        call = webhooks.upsert_endpoint(stored, max_stored_bytes=max_stored_bytes)
        full = f"your tenant has {webhooks.MAX_ENDPOINTS} endpoints, the most there may be"
        await self._made(call, record.tenant, full, max_stored_bytes)
        kept = await self._store.run(webhooks.read_endpoint(record.id))
        if kept is None:
            raise _absent()  # deleted in the same moment
        return Known(kept, card)

    async def _made(
        self,
        put: ledger.Call[EndpointOutcome],
        tenant: str,
        full: str,
        most_bytes: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make an endpoint.

        Raises:
            Problem: quota_exceeded.
        """
        match await self._store.run(put):
            case EndpointOutcome.FULL:
                raise Problem("quota_exceeded", full, headers=headers)
            case EndpointOutcome.STORED:
                work = await self._store.run(ledger.read_open_work(tenant, ""))
                raise stored_quota_problem(work.stored_bytes, most_bytes)

    async def _update(self, tenant: str, endpoint: str, apply: Callable[[Known], Known]) -> Known:
        for _ in range(_TRIES):
            known = await self.get(tenant, endpoint)
            wanted = apply(known)
            stored = replace(wanted.record, sealed=wanted.card.seal(self._codec, endpoint))
            match await self._store.run(webhooks.upsert_endpoint(stored)):
                case EndpointOutcome.OK:
                    return await self.get(tenant, endpoint)
                case EndpointOutcome.ABSENT:
                    raise _absent()
        raise Problem(
            "storage_unavailable", "others change this endpoint at the same time", headers={"Retry-After": "1"}
        )

    def _open(self, record: Endpoint) -> Known:
        return Known(record, Card.open(self._codec, record.id, record.sealed))


async def _sleep_until(began: float) -> None:
    """Wait until one or three seconds after `began`: how long a refusal took says nothing about the name."""
    took = time.monotonic() - began
    await asyncio.sleep(max(0.0, (1.0 if took < 1.0 else 3.0) - took))


def _new(
    tenant: str, target: Target, kind: Literal["url", "inline"], events: Sequence[str], *, every: bool
) -> Endpoint:
    return Endpoint(
        id=f"ep_{secrets.token_hex(16)}",
        tenant=tenant,
        rev=0,
        sealed=b"",
        events=tuple(events),
        kind=kind,
        every=every,
        lane=_lane(tenant, target),
        state="active",
        created=0,
        now=0,
    )


def _lane(tenant: str, target: Target) -> str:
    """One tenant's receiver; a hash, because a host may be told to nobody else."""
    return hashlib.sha256(f"{tenant}\n{target.lane}".encode()).hexdigest()[:24]


def _absent() -> Problem:
    return Problem("endpoint_not_found", "your tenant has no webhook endpoint of this id")
