"""Who calls: API key -> `Caller`, whether their role may do what the route does, and how often they may.

Before anything is read. Where a key may lie: `Authorization: Bearer` and `X-API-Key` always; `?api_key=` and a
session's cookie only where the settings say so. An answer that takes long looks again (`recheck`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.access.rate_limits import Caller
from gateway.http.problems import Problem
from gateway.http.services import Services, ServicesDep
from jobs.api_keys import KeyRecord, KeyRing, KeysStaleError, Role
from jobs.ledger import LedgerUnavailableError

__all__ = [
    "CSRF_HEADER",
    "LIST_COST",
    "LOCAL_TENANT",
    "QUERY",
    "STANDINGS",
    "Caller",
    "Require",
    "key_in_headers",
    "recheck",
    "require",
]

log = logging.getLogger(__name__)

LOCAL_TENANT = "default"
QUERY = "api_key"
CSRF_HEADER = "X-Gleaner-CSRF"
STANDINGS = "gleaner.standings"
"""Where a request's scope keeps what its caller has left, for the answer's headers."""
LIST_COST = 5
"""What a list costs, in reads of one job."""
Cost = int | Callable[[Request], int]
"""What a read costs, in reads of one job; where it depends on the query, a function of the request."""

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`Authorization: Bearer gl_…`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key", description="`X-API-Key: gl_…`")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gleaner"'}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Require:
    """A dependency that lets callers of at least this role through.

    It knows nothing of what the request is about: a role too low is 403 whether or not the job exists.

    Args:
        role: the lowest that may.
        submits: the route makes a job, which has a rate of its own.
        cost: what any other route costs the store, in reads of one job.

    Raises (when called):
        Problem: unauthenticated, forbidden, csrf_refused, rate_limited or keys_unavailable.
        LedgerUnavailableError: a rate is limited and cannot be counted, or a session cannot be looked up.
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
        """The caller of a request, for FastAPI; where a key may lie is named for the OpenAPI document."""
        return await self.admitted(request, services)

    async def admitted(self, request: Request, services: Services) -> Caller:
        """The caller of a request."""
        caller = await self._caller(request, services)
        request.scope[STANDINGS] = caller.standings
        try:
            cost = self._cost if isinstance(self._cost, int) else self._cost(request)
            await services.limiter.admit(caller, submits=self.submits, cost=cost)
        except Problem:
            *_, last = caller.standings.values()
            services.metrics.limited.labels(last.rule.measure, last.rule.scope).inc()
            raise
        return caller

    async def _caller(self, request: Request, services: Services) -> Caller:
        if services.keys is None:
            return Caller("local", LOCAL_TENANT, Role.admin)
        presented = key_in_headers(request) or _key_in_query(request, services)
        if presented:
            record, session = _accepted(services, services.keys, lambda keys: keys.verify(presented)), ""
        elif services.settings.auth_cookie and (
            token := request.cookies.get(services.sessions.cookie_name(request))
        ):
            _check_origin(request, services)
            session, key_hash = await services.sessions.find(token) or ("", "")
            record = _accepted(services, services.keys, lambda keys: keys.find(key_hash))
        else:
            services.metrics.auth_failures.labels("missing").inc()
            services.anonymous.take(_address(request))
            raise Problem("unauthenticated", "the request carries no API key", headers=_CHALLENGE)
        if record is None:
            await _failed(request, services)
            raise Problem("unauthenticated", "the API key is unknown, expired or revoked", headers=_CHALLENGE)
        self._check_role(record)
        return Caller(record.key_id, record.tenant, record.role, record.limits, record.sha256, session)

    def _check_role(self, record: KeyRecord) -> None:
        if not record.role.includes(self.role):
            raise Problem("forbidden", f"this needs a key of role {self.role}; this one is {record.role}")


def require(role: Role, *, submits: bool = False, cost: Cost = 1) -> Require:
    """The dependency of a route that callers of at least this role may use."""
    return Require(role, submits=submits, cost=cost)


async def recheck(services: Services, caller: Caller) -> None:
    """Look again whether an answer that is under way may go on; costs next to nothing without a session.

    Raises:
        Problem: unauthenticated, the key was revoked, rotated away or has expired, or the session has ended;
            forbidden, its role is lower now than when the request came; keys_unavailable.
    """
    if services.keys is None:
        return
    record = _accepted(services, services.keys, lambda keys: keys.find(caller.key_hash))
    if record is None or record.tenant != caller.tenant:
        raise Problem("unauthenticated", "the API key was revoked or has expired meanwhile", headers=_CHALLENGE)
    if not record.role.includes(caller.role):
        raise Problem("forbidden", f"the role of the API key is {record.role} now; ask again")
    if caller.session:
        try:
            lives = await services.sessions.lives(caller.session)
        except LedgerUnavailableError:
            return  # without the store nothing of a job is sent either
        if not lives:
            raise Problem("unauthenticated", "the session has ended", headers=_CHALLENGE)


def _accepted(services: Services, keys: KeyRing, find: Callable[[KeyRing], KeyRecord | None]) -> KeyRecord | None:
    """Return what the ring finds.

    Raises:
        Problem: keys_unavailable.
    """
    try:
        return find(keys)
    except KeysStaleError:
        services.metrics.auth_failures.labels("closed").inc()
        raise Problem(
            "keys_unavailable",
            "the service cannot read its keys, and accepts none until it can",
            headers={"Retry-After": "5"},
        ) from None


async def _failed(request: Request, services: Services) -> None:
    """Count a bad key.

    Raises:
        Problem: rate_limited.
    """
    address = _address(request)
    try:
        await services.limiter.failed_attempt(address)
    except Problem:
        services.metrics.auth_failures.labels("limited").inc()
        log.warning("auth.limited", extra={"address": address})
        raise
    services.metrics.auth_failures.labels("bad").inc()


def _address(request: Request) -> str:
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
    """Refuse a change that comes with a cookie and could be another site's doing.

    Raises:
        Problem: csrf_refused.
    """
    if request.method not in _SAFE and (reason := _forgeable(request)):
        services.metrics.auth_failures.labels("csrf").inc()
        raise Problem("csrf_refused", reason)


def _forgeable(request: Request) -> str | None:
    """Why a request with a cookie could be another site's doing.

    The cookie itself is SameSite=Strict; a header of our own cannot be sent by another site's form, nor by its
    script without CORS, which never lets this header through.
    """
    if not request.headers.get(CSRF_HEADER):
        return f"with a cookie this needs the header {CSRF_HEADER}"
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from another site"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return "the request comes from another origin"
    return None
