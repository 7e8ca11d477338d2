"""The registry of webhook endpoints: URL, events and signing secrets.

URL, description and secrets are one sealed blob per endpoint, because a URL often is a secret itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import orjson

from gateway.access.rate_limits import stored_quota_error
from gateway.errors import GatewayError
from gateway.fair_budget import FairBudget
from gateway.webhooks import payload, signing
from gateway.webhooks.addresses import NOT_PUBLIC, ForbiddenTargetError, Target
from gateway.webhooks.dns import LOOKUP_S
from gateway.webhooks.parsing import InlineWebhook
from gateway.webhooks.schedule import AttemptResult
from gateway.webhooks.sender import Sender
from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import AsyncLedger, associated_data, webhooks
from jobs.ledger.outcomes import EndpointOutcome
from jobs.ledger.webhooks import Endpoint

OVERLAP_MS = 24 * 3600 * 1000
"""After a rotation, payloads are signed with the old secret too for this long."""
INLINE_TTL_MS = 8 * 24 * 3600 * 1000
"""An inline endpoint expires this long after its job's deadline, until the job's end sets another time."""
_MAX_OLD_SECRETS = 4
_MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret; `until` (UTC ms) is None for the current one."""

    value: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointDetails:
    """The sealed part of an endpoint; the current secret comes first."""

    url: str
    description: str
    secrets: tuple[Secret, ...]

    def signing_secrets(self, now: int) -> list[str]:
        """Return the secrets that are valid at this time (UTC ms)."""
        return [secret.value for secret in self.secrets if secret.until is None or secret.until > now]

    def seal(self, codec: Codec, endpoint: str) -> bytes:
        """Return the details as stored."""
        rows = [[secret.value, secret.until] for secret in self.secrets]
        content = orjson.dumps({"url": self.url, "description": self.description, "secrets": rows})
        return codec.encode(content, associated_data("ep", endpoint))

    @classmethod
    def open(cls, codec: Codec, endpoint: str, sealed: bytes) -> EndpointDetails:
        """Read details that `seal` returned.

        Raises:
            CodecError: the blob cannot be read.
        """
        content = orjson.loads(codec.decode(sealed, associated_data("ep", endpoint)))
        return cls(content["url"], content["description"], tuple(Secret(*row) for row in content["secrets"]))


@dataclass(frozen=True, slots=True)
class OpenedEndpoint:
    """An endpoint's record with its unsealed details."""

    record: Endpoint
    details: EndpointDetails


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """An endpoint to register; without `secret` a new one is generated."""

    url: str
    description: str
    events: tuple[str, ...]
    secret: str | None
    every: bool


@dataclass(frozen=True, slots=True)
class EndpointChanges:
    """The changes of a PATCH; None leaves a field as it is."""

    url: str | None = None
    description: str | None = None
    events: tuple[str, ...] | None = None
    every: bool | None = None
    active: bool | None = None


class Endpoints:
    """Reads and changes endpoints for tenants.

    Args:
        store: the ledger.
        codec: seals endpoint details.
        sender: checks URLs, and sends tests.
        max_inline: open inline endpoints that a tenant may have; 0 is no limit.
    """

    def __init__(self, store: AsyncLedger, codec: Codec, sender: Sender, max_inline: int = 0) -> None:
        self._store = store
        self._max_inline = max_inline
        self._codec = codec
        self._sender = sender
        # Look-ups and tests wait for unknown servers: each kind gets separate threads, and one tenant never
        # occupies all of them.
        self._checks = ThreadPoolExecutor(16, thread_name_prefix="webhook-check")
        self._tests = ThreadPoolExecutor(16, thread_name_prefix="webhook-test")
        self._checking, self._testing = FairBudget(sys.maxsize, 4), FairBudget(sys.maxsize, 2)

    async def create(self, tenant: str, request: EndpointRequest, max_stored_bytes: int = 0) -> OpenedEndpoint:
        """Register an endpoint.

        Raises:
            GatewayError: webhook_url_forbidden, or quota_exceeded.
        """
        target = await self._check_url(tenant, request.url, "/url")
        secret = Secret(request.secret or signing.new_secret())
        details = EndpointDetails(request.url, request.description, (secret,))
        record = _make_record(tenant, target, "url", request.events, every=request.every)
        stored = replace(record, sealed=details.seal(self._codec, record.id))
        call = webhooks.upsert_endpoint(stored, max_stored_bytes=max_stored_bytes)
        full = f"your tenant has {webhooks.MAX_ENDPOINTS} webhook endpoints, the maximum; delete one first"
        await self._store_new(call, tenant, full, max_stored_bytes)
        return await self.get(tenant, record.id)

    async def create_inline(
        self, tenant: str, job: str, webhook: InlineWebhook, deadline_s: float, max_stored_bytes: int = 0
    ) -> OpenedEndpoint:
        """Create an endpoint for one job; it is removed an hour after the delivery, and with the job's DELETE.

        Raises:
            GatewayError: webhook_url_forbidden, or quota_exceeded.
        """
        target = await self._check_url(tenant, webhook.url, "/webhook/url")
        details = EndpointDetails(webhook.url, "", (Secret(webhook.secret or signing.new_secret()),))
        record = _make_record(tenant, target, "inline", webhook.events, every=False)
        stored = replace(record, sealed=details.seal(self._codec, record.id))
        ttl_ms = int(deadline_s * 1000) + INLINE_TTL_MS
        call = webhooks.upsert_endpoint(
            stored, ttl_ms=ttl_ms, most=self._max_inline, job=job, max_stored_bytes=max_stored_bytes
        )
        full = (
            f"your tenant has {self._max_inline} open inline webhooks, the maximum; register an endpoint "
            "(POST /v1/webhook-endpoints) and name it in `webhook.endpoint_id`"
        )
        await self._store_new(call, tenant, full, max_stored_bytes, retry_after_s=30)
        return OpenedEndpoint(stored, details)

    async def get(self, tenant: str, endpoint: str) -> OpenedEndpoint:
        """Return the tenant's endpoint.

        Raises:
            GatewayError: endpoint_not_found.
        """
        record = await self._store.run(webhooks.read_endpoint(endpoint))
        if record is None or record.tenant != tenant:
            raise _not_found()
        return self._open(record)

    async def list_registered(self, tenant: str) -> list[OpenedEndpoint]:
        """Return the tenant's registered endpoints, oldest first."""
        return [self._open(record) for record in await self._store.run(webhooks.list_endpoints(tenant))]

    async def update(self, tenant: str, endpoint: str, changes: EndpointChanges) -> OpenedEndpoint:
        """Apply the changes; an endpoint that becomes active again gets its waiting deliveries.

        Raises:
            GatewayError: endpoint_not_found or webhook_url_forbidden.
        """
        target = None if changes.url is None else await self._check_url(tenant, changes.url, "/url")

        def apply(endpoint: OpenedEndpoint) -> OpenedEndpoint:
            record, details = endpoint.record, endpoint.details
            if changes.events is not None:
                record = replace(record, events=changes.events)
            if changes.every is not None and record.kind == "url":
                record = replace(record, every=changes.every)
            if changes.active is not None:
                record = replace(record, state="active" if changes.active else "disabled")
            if target is not None and changes.url is not None:
                record = replace(record, lane=_receiver_hash(tenant, target))
                details = replace(details, url=changes.url)
            if changes.description is not None:
                details = replace(details, description=changes.description)
            return OpenedEndpoint(record, details)

        return await self._update(tenant, endpoint, apply)

    async def rotate_secret(self, tenant: str, endpoint: str, secret: str | None) -> OpenedEndpoint:
        """Set a new current secret; payloads are signed with a replaced one too for 24 h after its rotation.

        Raises:
            GatewayError: endpoint_not_found.
        """
        new_secret = secret or signing.new_secret()

        def apply(endpoint: OpenedEndpoint) -> OpenedEndpoint:
            now, secrets_now = endpoint.record.now, endpoint.details.secrets
            if secrets_now[0].value == new_secret:
                return endpoint
            old_secrets = [
                replace(old, until=old.until or now + OVERLAP_MS)
                for old in secrets_now
                if old.value != new_secret and (old.until is None or old.until > now)
            ]
            details = replace(endpoint.details, secrets=(Secret(new_secret), *old_secrets[:_MAX_OLD_SECRETS]))
            return OpenedEndpoint(endpoint.record, details)

        return await self._update(tenant, endpoint, apply)

    async def delete(self, tenant: str, endpoint: str) -> None:
        """Delete the endpoint and its pending deliveries.

        Raises:
            GatewayError: endpoint_not_found.
        """
        await self.get(tenant, endpoint)
        await self._store.run(webhooks.delete_endpoint(endpoint))

    async def send_test(self, tenant: str, endpoint: str) -> AttemptResult:
        """Send a signed `webhook.test` now and return the result; nothing is stored or retried.

        Raises:
            GatewayError: endpoint_not_found, or rate_limited while two of the tenant's tests are in progress.
        """
        opened = await self.get(tenant, endpoint)
        if not self._testing.try_take(tenant, 1):
            raise GatewayError("rate_limited", "two webhook tests of your tenant are in progress", retry_after_s=15)
        began = time.monotonic()
        now = opened.record.now
        body = payload.build_test_event(endpoint, now)
        valid_secrets = opened.details.signing_secrets(now)
        headers = signing.sign_headers(f"test_{secrets.token_hex(16)}", now // 1000, body, valid_secrets)
        running = asyncio.get_running_loop().run_in_executor(
            self._tests, self._sender.post, tenant, opened.details.url, headers, body
        )
        running.add_done_callback(lambda _: self._testing.give_back(tenant, 1))
        answer = await asyncio.shield(running)
        if answer.error == "address_forbidden":
            await _sleep_until(began)
        return answer

    async def _check_url(self, tenant: str, url: str, at: str) -> Target:
        """Parse the URL and resolve its host; a look-up that takes too long passes, because attempts repeat it.

        Raises:
            GatewayError: webhook_url_forbidden.
        """
        began = time.monotonic()
        try:
            target = self._sender.policy.parse_url(url, tenant)
            await self._resolve_target(target, tenant, began)
        except ForbiddenTargetError as error:
            if error.reason == NOT_PUBLIC:
                await _sleep_until(began)
            raise GatewayError("webhook_url_forbidden", f"the URL {error.reason}", [(at, error.reason)]) from None
        return target

    async def _resolve_target(self, target: Target, tenant: str, began: float) -> None:
        try:
            async with asyncio.timeout(LOOKUP_S):
                await self._checking.take(tenant, 1)
        except TimeoutError:
            return
        running = asyncio.get_running_loop().run_in_executor(
            self._checks, self._sender.check_target, target, tenant
        )

        def release(ended: asyncio.Future[None]) -> None:
            self._checking.give_back(tenant, 1)
            ended.exception()  # retrieved, so that asyncio does not log it

        running.add_done_callback(release)
        done, _ = await asyncio.wait([running], timeout=max(0.1, began + LOOKUP_S + 0.5 - time.monotonic()))
        for finished in done:
            finished.result()

    async def _store_new(
        self,
        put: ledger.Call[EndpointOutcome],
        tenant: str,
        full: str,
        max_stored_bytes: int,
        retry_after_s: float | None = None,
    ) -> None:
        """Store a new endpoint.

        Raises:
            GatewayError: quota_exceeded.
        """
        match await self._store.run(put):
            case EndpointOutcome.FULL:
                raise GatewayError("quota_exceeded", full, retry_after_s=retry_after_s)
            case EndpointOutcome.STORED:
                work = await self._store.run(ledger.read_open_work(tenant, ""))
                raise stored_quota_error(work.stored_bytes, max_stored_bytes)

    async def _update(
        self, tenant: str, endpoint: str, apply: Callable[[OpenedEndpoint], OpenedEndpoint]
    ) -> OpenedEndpoint:
        for _ in range(_MAX_TRIES):
            changed = apply(await self.get(tenant, endpoint))
            stored = replace(changed.record, sealed=changed.details.seal(self._codec, endpoint))
            match await self._store.run(webhooks.upsert_endpoint(stored)):
                case EndpointOutcome.OK:
                    return await self.get(tenant, endpoint)
                case EndpointOutcome.ABSENT:
                    raise _not_found()
        raise GatewayError(
            "storage_unavailable", "the endpoint is being changed by other requests", retry_after_s=1
        )

    def _open(self, record: Endpoint) -> OpenedEndpoint:
        return OpenedEndpoint(record, EndpointDetails.open(self._codec, record.id, record.sealed))


async def _sleep_until(began: float) -> None:
    """Wait until one or three seconds after `began`, so that a refusal's time reveals nothing about the name."""
    took = time.monotonic() - began
    await asyncio.sleep(max(0.0, (1.0 if took < 1.0 else 3.0) - took))


def _make_record(
    tenant: str, target: Target, kind: Literal["url", "inline"], events: tuple[str, ...], *, every: bool
) -> Endpoint:
    return Endpoint(
        id=f"ep_{secrets.token_hex(16)}",
        tenant=tenant,
        rev=0,
        sealed=b"",
        events=events,
        kind=kind,
        every=every,
        lane=_receiver_hash(tenant, target),
        state="active",
        created=0,
        now=0,
    )


def _receiver_hash(tenant: str, target: Target) -> str:
    """Return the key of one tenant's receiver; a hash, because other tenants must not learn its host."""
    return hashlib.sha256(f"{tenant}\n{target.lane}".encode()).hexdigest()[:24]


def _not_found() -> GatewayError:
    return GatewayError("endpoint_not_found", "your tenant has no webhook endpoint with this id")
