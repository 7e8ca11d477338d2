"""Calls hot routes directly, without FastAPI's routing and dependency resolution.

FastAPI takes longer to find a route and resolve its dependencies than all checks of a submission take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.auth import Require
from gateway.http.middleware import get_request_id
from gateway.http.problems import Problem
from gateway.services import Services


class DirectRoutes:
    """Calls the routes of some routers for requests without a query, with request, services and caller.

    The routes' other parameters come from the query and have defaults. Requests with a query pass through FastAPI,
    which also documents these routes.

    Args:
        app: handles all other requests.
        routers: routers whose routes are called directly; their paths have no parameters.
        problem: converts an exception into a Problem; re-raises exceptions that clients must not see.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], problem: Callable[[Exception], Problem]) -> None:
        self._app = app
        self._problem = problem
        self._routes = {
            (route.path, method): (route, _find_rule(route))
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the request's route, or the app."""
        entry = self._routes.get((scope["path"], scope["method"])) if scope["type"] == "http" else None
        if entry is None or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        scope["route"], rule = entry
        response = await self._call_route(Request(scope, receive, send), entry[0], rule)
        await response(scope, receive, send)

    async def _call_route(self, request: Request, route: APIRoute, rule: Require) -> Response:
        services: Services = request.app.state.services
        try:
            caller = await rule.admit_caller(request, services)
            response: Response = await route.endpoint(request=request, services=services, caller=caller)
        except Exception as error:  # noqa: BLE001  # as FastAPI's own handlers would
            return self._problem(error).to_response(get_request_id(request.scope))
        return response


def _find_rule(route: APIRoute) -> Require:
    [rule] = (d.call for d in route.dependant.dependencies if isinstance(d.call, Require))
    return rule
