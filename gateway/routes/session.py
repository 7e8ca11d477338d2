"""/v1/session: browser sessions by cookie; served if `GLEANER_AUTH_COOKIE` is on."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.access.sessions import LEGACY_COOKIE
from gateway.errors import GatewayError
from gateway.http import openapi
from gateway.http.requests import key_in_headers
from gateway.routes.dependencies import ServicesDep, Viewer

router = APIRouter(prefix="/v1/session", tags=["health"])


@router.post(
    "",
    operation_id="create_session",
    summary="Sign a browser in",
    status_code=204,
    response_model=None,
    responses={204: {"description": "The cookie is set."}, **openapi.error_responses()},
)
async def create_session(request: Request, services: ServicesDep, caller: Viewer) -> Response:
    """Begin a session with the key in this request's header; it ends with the key, at sign-out, or when it expires.

    The cookie holds a session token, not the key, and scripts cannot read it.
    """
    sessions, scheme = services.sessions, request.url.scheme
    if key_in_headers(request) is None:
        raise GatewayError("unauthenticated", "send the key in a header to begin a session")
    response = Response(status_code=204)
    response.set_cookie(
        sessions.cookie_name(scheme),
        await sessions.begin_session(caller.key_hash),
        max_age=sessions.lifetime_s,
        secure=sessions.is_secure(scheme),
        httponly=True,
        samesite="strict",
    )
    _delete_cookie(response, sessions.is_secure(scheme), LEGACY_COOKIE)
    return response


@router.delete(
    "",
    operation_id="delete_session",
    summary="Sign a browser out",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "The session has ended, and the cookie is deleted."},
        **openapi.error_responses(),
    },
)
async def delete_session(request: Request, services: ServicesDep, _caller: Viewer) -> Response:
    """End the session of this browser's cookie; the key itself stays valid."""
    sessions, scheme = services.sessions, request.url.scheme
    response, name = Response(status_code=204), sessions.cookie_name(scheme)
    if token := request.cookies.get(name):
        await sessions.end_session(token)
    _delete_cookie(response, sessions.is_secure(scheme), name)
    _delete_cookie(response, sessions.is_secure(scheme), LEGACY_COOKIE)
    return response


def _delete_cookie(response: Response, secure: bool, name: str) -> None:
    response.delete_cookie(name, secure=secure, httponly=True, samesite="strict")
