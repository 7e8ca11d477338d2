"""Who calls: API key -> `Caller`, and whether their role may do what the route does. Before anything is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.problems import Problem
from gateway.services import ServicesDep
from jobs.keys import Role

LOCAL_TENANT = "default"

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`Authorization: Bearer gl_…`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key", description="`X-API-Key: gl_…`")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gleaner"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is."""

    key_id: str
    tenant: str
    role: Role


def require(role: Role) -> Callable[..., Awaitable[Caller]]:
    """A dependency that lets callers of at least this role through.

    It knows nothing of what the request is about: a role too low is 403 whether or not the job exists.

    Raises (the dependency):
        Problem: unauthenticated or forbidden.
    """

    async def caller(
        services: ServicesDep,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        header: Annotated[str | None, Security(_HEADER)],
    ) -> Caller:
        if services.keys is None:
            return Caller("local", LOCAL_TENANT, Role.admin)
        presented = bearer.credentials if bearer is not None else header
        if not presented:
            raise Problem("unauthenticated", "the request carries no API key", headers=_CHALLENGE)
        record = services.keys.verify(presented)
        if record is None:
            raise Problem("unauthenticated", "the API key is unknown, expired or revoked", headers=_CHALLENGE)
        if not record.role.includes(role):
            raise Problem("forbidden", f"this needs a key of role {role}; this one is {record.role}")
        return Caller(record.key_id, record.tenant, record.role)

    return caller
