"""Requests that are answered before FastAPI sees them, where there is nothing to resolve.

Finding a route and resolving its dependencies takes longer than everything that a submission is checked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.auth import Require
from gateway.http.middleware import request_id
from gateway.http.problems import Problem
from gateway.http.services import Services


class DirectRoutes:
    """Stands before the app and takes its requests without a query: calls the route with request, services, caller.

    What else the route takes is read of the query and has defaults. With a query a request goes FastAPI's way, and
    so does the OpenAPI document.

    Args:
        app: what answers all others.
        routers: whose routes are called so; their paths have no parameters.
        problem: what an error is told as; raises it where it is none that is told.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], problem: Callable[[Exception], Problem]) -> None:
        self._app = app
        self._problem = problem
        self._routes = {
            (route.path, method): (route, _rule(route))
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do it."""
        found = scope["type"] == "http" and self._routes.get((scope["path"], scope["method"]))
        if not found or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        scope["route"], rule = found
        response = await self._answer(Request(scope, receive, send), found[0], rule)
        await response(scope, receive, send)

    async def _answer(self, request: Request, route: APIRoute, rule: Require) -> Response:
        services: Services = request.app.state.services
        try:
            caller = await rule.admit_caller(request, services)
            response: Response = await route.endpoint(request=request, services=services, caller=caller)
        except Exception as error:  # noqa: BLE001  # as FastAPI's own handlers would
            return self._problem(error).response(request_id(request.scope))
        return response


def _rule(route: APIRoute) -> Require:
    [rule] = (each.call for each in route.dependant.dependencies if isinstance(each.call, Require))
    return rule
