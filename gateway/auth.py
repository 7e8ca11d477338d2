"""Who calls: API key -> `Caller`, whether their role may do what the route does, and how often they may.

Before anything is read. Where a key may lie: `Authorization: Bearer` and `X-API-Key` always; `?api_key=` and the
cookie only where the settings say so.
"""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.limits import Caller
from gateway.problems import Problem
from gateway.services import Services, ServicesDep
from jobs.keys import KeyRecord, Role

__all__ = ["COOKIE", "CSRF_HEADER", "LOCAL_TENANT", "QUERY", "STANDINGS", "Caller", "Require", "require"]

log = logging.getLogger(__name__)

LOCAL_TENANT = "default"
QUERY = "api_key"
COOKIE = "gleaner_api_key"
CSRF_HEADER = "X-Gleaner-CSRF"
STANDINGS = "gleaner.standings"
"""Where a request's scope keeps what its caller has left, for the answer's headers."""

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

    Raises (when called):
        Problem: unauthenticated, forbidden, csrf_refused or rate_limited.
        LedgerUnavailableError: a rate is limited and cannot be counted.
    """

    def __init__(self, role: Role, *, submits: bool = False) -> None:
        self.role = role
        self.submits = submits

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
            await services.limiter.admit(caller, submits=self.submits)
        except Problem:
            *_, last = caller.standings.values()
            services.metrics.limited.labels(last.rule.measure, last.rule.scope).inc()
            raise
        return caller

    async def _caller(self, request: Request, services: Services) -> Caller:
        if services.keys is None:
            return Caller("local", LOCAL_TENANT, Role.admin)
        presented = _in_the_headers(request) or _beside_the_headers(request, services)
        if not presented:
            services.metrics.auth_failures.labels("missing").inc()
            raise Problem("unauthenticated", "the request carries no API key", headers=_CHALLENGE)
        record = services.keys.verify(presented)
        if record is None:
            await _failed(request, services)
            raise Problem("unauthenticated", "the API key is unknown, expired or revoked", headers=_CHALLENGE)
        self._check_role(record)
        return Caller(record.key_id, record.tenant, record.role, record.limits)

    def _check_role(self, record: KeyRecord) -> None:
        if not record.role.includes(self.role):
            raise Problem("forbidden", f"this needs a key of role {self.role}; this one is {record.role}")


def require(role: Role, *, submits: bool = False) -> Require:
    """The dependency of a route that callers of at least this role may use."""
    return Require(role, submits=submits)


async def _failed(request: Request, services: Services) -> None:
    """Count a bad key.

    Raises:
        Problem: rate_limited.
    """
    address = request.client.host if request.client else ""
    try:
        await services.limiter.failed_attempt(address)
    except Problem:
        services.metrics.auth_failures.labels("limited").inc()
        log.warning("auth.limited", extra={"address": address})
        raise
    services.metrics.auth_failures.labels("bad").inc()


def _in_the_headers(request: Request) -> str | None:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and (presented := credentials.strip()):
        return presented
    return request.headers.get("x-api-key")


def _beside_the_headers(request: Request, services: Services) -> str | None:
    """The key of the query or the cookie, where they are taken.

    Raises:
        Problem: csrf_refused.
    """
    if services.settings.auth_query and (given := request.query_params.get(QUERY)):
        return given
    if services.settings.auth_cookie and (given := request.cookies.get(COOKIE)):
        if request.method not in _SAFE and (reason := _forgeable(request)):
            services.metrics.auth_failures.labels("csrf").inc()
            raise Problem("csrf_refused", reason)
        return given
    return None


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
