"""A route that is called without FastAPI's resolving of dependencies, where there is nothing to resolve.

Resolving takes longer than everything that a submission is checked for.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gateway.auth import Require
from gateway.services import Services


class Direct(APIRoute):
    """Calls its endpoint with request, services and caller.

    What else the endpoint takes is read of the query and has defaults: a request with a query goes FastAPI's way.
    The OpenAPI document is made of the signature, as of any route.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        resolving, endpoint = super().get_route_handler(), self.endpoint
        [rule] = (each.call for each in self.dependant.dependencies if isinstance(each.call, Require))

        async def handle(request: Request) -> Response:
            if request.scope["query_string"]:
                return await resolving(request)
            services: Services = request.app.state.services
            caller = await rule.admitted(request, services)
            response: Response = await endpoint(request=request, services=services, caller=caller)
            return response

        return handle
