"""Authenticates a request: API key or session -> `Caller`, if its role suffices.

This happens before the body is read. Long responses check the caller again (`recheck_caller`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.access import Caller
from gateway.access.anonymous import AnonymousRate
from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.errors import GatewayError
from jobs.api_keys import KeyRecord, KeyRing, KeysStaleError, Role
from jobs.ledger import LedgerUnavailableError
from jobs.observability.metrics import GatewayMetrics

log = logging.getLogger(__name__)

LOCAL_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials and origin of a request, as sent.

    Attributes:
        address: of the client, or "".
        key: an API key.
        session_token: from a browser's cookie.
        forgery: the reason why another site could have sent the request with the cookie.
    """

    address: str
    key: str | None = None
    session_token: str | None = None
    forgery: str | None = None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Finds the callers of requests.

    Attributes:
        keys: None with `GLEANER_AUTH=off`: every caller is a local admin.
        limiter: counts attempts with bad keys.
        anonymous: counts requests without a key.
    """

    keys: KeyRing | None
    sessions: Sessions
    limiter: Limiter
    anonymous: AnonymousRate
    metrics: GatewayMetrics

    async def find_caller(self, credentials: Credentials, role: Role) -> Caller:
        """Return the caller with these credentials, of at least this role.

        It does not look at the requested job: a role that is too low is `forbidden` whether or not the job exists.

        Raises:
            GatewayError: unauthenticated, forbidden, csrf_refused, rate_limited or keys_unavailable.
            LedgerUnavailableError: a session cannot be looked up.
        """
        if self.keys is None:
            return Caller("local", LOCAL_TENANT, Role.ADMIN)
        session = ""
        if key := credentials.key:
            record = self._find_record(lambda keys: keys.verify(key))
        elif token := credentials.session_token:
            if credentials.forgery is not None:
                self.metrics.auth_failures.labels("csrf").inc()
                raise GatewayError("csrf_refused", credentials.forgery)
            session, key_hash = await self.sessions.find_session(token) or ("", "")
            record = self._find_record(lambda keys: keys.find(key_hash))
        else:
            self.metrics.auth_failures.labels("missing").inc()
            self.anonymous.count_request(credentials.address)
            raise GatewayError("unauthenticated", "the request carries no API key")
        if record is None:
            await self._count_bad_key(credentials.address)
            raise GatewayError("unauthenticated", "the API key is unknown, expired or revoked")
        if not record.role.includes(role):
            raise GatewayError(
                "forbidden", f"this needs a key of role {role}; the role of this key is {record.role}"
            )
        return Caller(record.key_id, record.tenant, record.role, record.limits, record.sha256, session)

    async def recheck_caller(self, caller: Caller) -> None:
        """Check again that the caller of a response in progress is still allowed; free of I/O without a session.

        Raises:
            GatewayError: unauthenticated, if the key was revoked, rotated or has expired, or the session has ended;
                forbidden, if its role is lower than when the request arrived; keys_unavailable.
        """
        if self.keys is None:
            return
        record = self._find_record(lambda keys: keys.find(caller.key_hash))
        if record is None or record.tenant != caller.tenant:
            raise GatewayError("unauthenticated", "the API key was revoked or has expired in the meantime")
        if not record.role.includes(caller.role):
            raise GatewayError("forbidden", f"the role of the API key is now {record.role}; send the request again")
        if caller.session:
            try:
                is_active = await self.sessions.is_active(caller.session)
            except LedgerUnavailableError:
                return  # without Redis no data of a job is sent either
            if not is_active:
                raise GatewayError("unauthenticated", "the session has ended")

    def _find_record(self, find: Callable[[KeyRing], KeyRecord | None]) -> KeyRecord | None:
        """Return the record that `find` gets from the key ring, or None.

        Raises:
            GatewayError: keys_unavailable.
        """
        try:
            return None if self.keys is None else find(self.keys)
        except KeysStaleError:
            self.metrics.auth_failures.labels("closed").inc()
            detail = "the service cannot read its keys file and accepts no key until it can"
            raise GatewayError("keys_unavailable", detail, retry_after_s=5) from None

    async def _count_bad_key(self, address: str) -> None:
        """Count an attempt with a bad key.

        Raises:
            GatewayError: rate_limited.
        """
        try:
            await self.limiter.count_failed_attempt(address)
        except GatewayError:
            self.metrics.auth_failures.labels("limited").inc()
            log.warning("auth.limited", extra={"address": address})
            raise
        self.metrics.auth_failures.labels("bad").inc()
