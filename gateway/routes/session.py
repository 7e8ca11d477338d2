"""/v1/session: a browser's cookie. Only there where `GLEANER_AUTH_COOKIE` is on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway import openapi
from gateway.auth import COOKIE, Caller, require
from gateway.problems import Problem
from gateway.services import ServicesDep
from jobs.keys import Role

LASTS_S = 12 * 3600

router = APIRouter(prefix="/v1/session", tags=["health"])


@router.post(
    "",
    operation_id="create_session",
    summary="Keep the key in a cookie",
    status_code=204,
    response_model=None,
    responses={204: {"description": "The browser has the cookie, for twelve hours."}, **openapi.answers()},
)
async def create_session(
    request: Request, services: ServicesDep, _caller: Annotated[Caller, Depends(require(Role.viewer))]
) -> Response:
    """Sign a browser in with the key of this request's header. Scripts cannot read the cookie."""
    key = _of_headers(request)
    if key is None:
        raise Problem("unauthenticated", "a session begins with the key in a header")
    response = Response(status_code=204)
    secure = _secure(request, services)
    response.set_cookie(COOKIE, key, max_age=LASTS_S, secure=secure, httponly=True, samesite="strict")
    return response


@router.delete(
    "",
    operation_id="delete_session",
    summary="Forget the cookie",
    status_code=204,
    response_model=None,
    responses={204: {"description": "The browser has dropped the cookie."}, **openapi.answers()},
)
async def delete_session(
    request: Request, services: ServicesDep, _caller: Annotated[Caller, Depends(require(Role.viewer))]
) -> Response:
    """Sign a browser out; the key itself stays good."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, secure=_secure(request, services), httponly=True, samesite="strict")
    return response


def _of_headers(request: Request) -> str | None:
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and credentials:
        return credentials
    return request.headers.get("x-api-key")


def _secure(request: Request, services: ServicesDep) -> bool:
    return request.url.scheme == "https" or services.settings.https != "off"
