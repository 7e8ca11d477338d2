"""Authenticates a request: API key -> `Caller`, with the role that the route needs, within its rate limits.

This happens before the body is read. The key may be in `Authorization: Bearer` or `X-API-Key`; in `?api_key=` or a
session's cookie only if the settings allow it. Long responses check the caller again (`recheck_caller`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.access.rate_limits import Caller as Caller
from gateway.errors import GatewayError
from gateway.services import Services, ServicesDep
from jobs.api_keys import KeyRecord, KeyRing, KeysStaleError, Role
from jobs.ledger import LedgerUnavailableError

log = logging.getLogger(__name__)

LOCAL_TENANT = "default"
QUERY = "api_key"
CSRF_HEADER = "X-Gleaner-CSRF"
RATE_LIMIT_STATUSES = "gleaner.standings"
"""Key of the request's scope with the status of its rate limits, for the response's headers."""
LIST_COST = 5
"""Cost of a list, in reads of one job."""
Cost = int | Callable[[Request], int]
"""Cost of a read, in reads of one job; where it depends on the query, a function of the request."""

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`Authorization: Bearer gl_…`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key", description="`X-API-Key: gl_…`")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Require:
    """FastAPI dependency that admits callers of at least one role.

    It does not look at the requested job: a role that is too low gets 403 whether or not the job exists.

    Args:
        role: the lowest role that is admitted.
        submits: the route creates a job, which has a separate rate limit.
        cost: cost of any other route for Redis, in reads of one job.

    Raises (when called):
        GatewayError: unauthenticated, forbidden, csrf_refused, rate_limited or keys_unavailable.
        LedgerUnavailableError: the rate limits cannot be counted, or a session cannot be looked up.
    """

    def __init__(self, role: Role, *, submits: bool = False, cost: Cost = 1) -> None:
        self.role = role
        self.submits = submits
        self._cost = cost

    async def __call__(
        self,
        request: Request,
        services: ServicesDep,
        _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        _header: Annotated[str | None, Security(_HEADER)],
    ) -> Caller:
        """Return the caller of a request; the unused parameters declare the security schemes in OpenAPI."""
        return await self.admit_caller(request, services)

    async def admit_caller(self, request: Request, services: Services) -> Caller:
        """Authenticate a request, count it against the rate limits, and return its caller."""
        caller = await self._authenticate(request, services)
        request.scope[RATE_LIMIT_STATUSES] = caller.rate_limit_statuses
        try:
            cost = self._cost if isinstance(self._cost, int) else self._cost(request)
            await services.limiter.admit_request(caller, submits=self.submits, cost=cost)
        except GatewayError:
            *_, last = caller.rate_limit_statuses.values()
            services.metrics.limited.labels(last.limit.measure, last.limit.scope).inc()
            raise
        return caller

    async def _authenticate(self, request: Request, services: Services) -> Caller:
        if services.keys is None:
            return Caller("local", LOCAL_TENANT, Role.ADMIN)
        presented = key_in_headers(request) or _key_in_query(request, services)
        if presented:
            record, session = _find_record(services, services.keys, lambda keys: keys.verify(presented)), ""
        elif services.settings.auth_cookie and (
            token := request.cookies.get(services.sessions.cookie_name(request))
        ):
            _check_origin(request, services)
            session, key_hash = await services.sessions.find_session(token) or ("", "")
            record = _find_record(services, services.keys, lambda keys: keys.find(key_hash))
        else:
            services.metrics.auth_failures.labels("missing").inc()
            services.anonymous.count_request(_client_address(request))
            raise GatewayError("unauthenticated", "the request carries no API key")
        if record is None:
            await _count_bad_key(request, services)
            raise GatewayError("unauthenticated", "the API key is unknown, expired or revoked")
        if not record.role.includes(self.role):
            raise GatewayError(
                "forbidden", f"this needs a key of role {self.role}; the role of this key is {record.role}"
            )
        return Caller(record.key_id, record.tenant, record.role, record.limits, record.sha256, session)


def require(role: Role, *, submits: bool = False, cost: Cost = 1) -> Require:
    """Return the dependency of a route that needs at least this role."""
    return Require(role, submits=submits, cost=cost)


async def recheck_caller(services: Services, caller: Caller) -> None:
    """Check again that the caller of a response in progress is still allowed; free of I/O without a session.

    Raises:
        GatewayError: unauthenticated, if the key was revoked, rotated or has expired, or the session has ended;
            forbidden, if its role is lower than when the request arrived; keys_unavailable.
    """
    if services.keys is None:
        return
    record = _find_record(services, services.keys, lambda keys: keys.find(caller.key_hash))
    if record is None or record.tenant != caller.tenant:
        raise GatewayError("unauthenticated", "the API key was revoked or has expired in the meantime")
    if not record.role.includes(caller.role):
        raise GatewayError("forbidden", f"the role of the API key is now {record.role}; send the request again")
    if caller.session:
        try:
            is_active = await services.sessions.is_active(caller.session)
        except LedgerUnavailableError:
            return  # without Redis no data of a job is sent either
        if not is_active:
            raise GatewayError("unauthenticated", "the session has ended")


def _find_record(
    services: Services, keys: KeyRing, find: Callable[[KeyRing], KeyRecord | None]
) -> KeyRecord | None:
    """Return the record that `find` gets from the key ring, or None.

    Raises:
        GatewayError: keys_unavailable.
    """
    try:
        return find(keys)
    except KeysStaleError:
        services.metrics.auth_failures.labels("closed").inc()
        raise GatewayError(
            "keys_unavailable",
            "the service cannot read its keys file and accepts no key until it can",
            retry_after_s=5,
        ) from None


async def _count_bad_key(request: Request, services: Services) -> None:
    """Count an attempt with a bad key.

    Raises:
        GatewayError: rate_limited.
    """
    address = _client_address(request)
    try:
        await services.limiter.count_failed_attempt(address)
    except GatewayError:
        services.metrics.auth_failures.labels("limited").inc()
        log.warning("auth.limited", extra={"address": address})
        raise
    services.metrics.auth_failures.labels("bad").inc()


def _client_address(request: Request) -> str:
    return request.client.host if request.client else ""


def key_in_headers(request: Request) -> str | None:
    """Return the key that a request carries in a header, or None."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and (presented := credentials.strip()):
        return presented
    return request.headers.get("x-api-key")


def _key_in_query(request: Request, services: Services) -> str | None:
    return request.query_params.get(QUERY) if services.settings.auth_query else None


def _check_origin(request: Request, services: Services) -> None:
    """Refuse a state-changing request with a cookie that another site could have forged.

    Raises:
        GatewayError: csrf_refused.
    """
    if request.method not in _SAFE and (reason := _forgery_reason(request)):
        services.metrics.auth_failures.labels("csrf").inc()
        raise GatewayError("csrf_refused", reason)


def _forgery_reason(request: Request) -> str | None:
    """Return the reason why another site could have forged a request with a cookie, or None.

    The cookie itself is SameSite=Strict; a custom header cannot be sent by another site's form, nor by its script
    without CORS, which never allows this header.
    """
    if not request.headers.get(CSRF_HEADER):
        return f"with a session cookie this request needs the header {CSRF_HEADER}"
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from another site"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return "the request comes from another origin"
    return None
