"""Routes that are called without FastAPI, where there is nothing to resolve.

Finding a route and resolving its dependencies takes longer than everything that a submission is checked for.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from gateway.auth import Require
from gateway.services import Services


class Direct(BaseRoute):
    """Stands before a route and takes its requests without a query: calls it with request, services and caller.

    What else the route takes is read of the query and has defaults. With a query a request goes FastAPI's way, and
    so does the OpenAPI document.
    """

    def __init__(self, route: APIRoute) -> None:
        self.path, self.methods, self.dependant = route.path, route.methods or set(), route.dependant
        self._found = {"route": route, "endpoint": route.endpoint, "path_params": {}}
        self._endpoint = route.endpoint
        [self._rule] = (each.call for each in route.dependant.dependencies if isinstance(each.call, Require))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """All of a request or nothing."""
        if scope["path"] == self.path and scope["method"] in self.methods and not scope["query_string"]:
            return Match.FULL, self._found
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive, send)
        services: Services = request.app.state.services
        caller = await self._rule.admitted(request, services)
        response = await self._endpoint(request=request, services=services, caller=caller)
        await response(scope, receive, send)


def direct(*routers: APIRouter) -> list[BaseRoute]:
    """What stands before the routes of these routers, whose paths have no parameters."""
    return [Direct(route) for router in routers for route in router.routes if isinstance(route, APIRoute)]
