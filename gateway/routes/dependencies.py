"""The dependencies of routes: the services of the process, and the caller of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.access import Caller
from gateway.access.auth import Authenticator
from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.access.streams import Streams
from gateway.http.middleware import report_rate_limits
from gateway.http.readiness import Readiness
from gateway.http.requests import read_credentials
from gateway.label_sets import LabelSets
from gateway.reading.job_reader import JobReader
from gateway.reading.job_waiter import Waiter
from gateway.reading.results import Results
from gateway.settings import GatewaySettings
from gateway.store.durability import Barrier
from gateway.submission.accept import Submissions
from gateway.submission.retry import Retries
from gateway.webhooks.endpoints import Endpoints
from jobs.api_keys import Role
from jobs.codec import Codec
from jobs.ledger import AsyncLedger
from jobs.observability.metrics import GatewayMetrics

LIST_COST = 5
"""Cost of a list, in reads of one job."""
Cost = int | Callable[[Request], int]
"""Cost of a read, in reads of one job; where it depends on the query, a function of the request."""

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`Authorization: Bearer gl_…`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key", description="`X-API-Key: gl_…`")


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that routes call; `gateway.app` builds them once per process."""

    settings: GatewaySettings
    ledger: AsyncLedger
    barrier: Barrier
    codec: Codec
    authenticator: Authenticator
    sessions: Sessions
    limiter: Limiter
    streams: Streams
    submissions: Submissions
    retries: Retries
    jobs: JobReader
    results: Results
    waiter: Waiter
    endpoints: Endpoints
    label_sets: LabelSets
    readiness: Readiness
    metrics: GatewayMetrics


async def get_services(request: Request) -> Services:
    """Return the process's services; async, because a plain dependency would cost a thread for each request."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(get_services)]


class Require:
    """FastAPI dependency that admits callers of at least one role, within their rate limits.

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
        _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None,
        _header: Annotated[str | None, Security(_HEADER)] = None,
    ) -> Caller:
        """Return the caller of a request; the unused parameters declare the security schemes in OpenAPI."""
        credentials = read_credentials(request, services.settings, services.sessions)
        caller = await services.authenticator.find_caller(credentials, self.role)
        cost = self._cost if isinstance(self._cost, int) else self._cost(request)
        statuses = await services.limiter.admit_request(caller, submits=self.submits, cost=cost)
        report_rate_limits(request.scope, statuses)
        return caller


Viewer = Annotated[Caller, Depends(Require(Role.VIEWER))]
Lister = Annotated[Caller, Depends(Require(Role.VIEWER, cost=LIST_COST))]
Submitter = Annotated[Caller, Depends(Require(Role.SUBMITTER))]
Submission = Annotated[Caller, Depends(Require(Role.SUBMITTER, submits=True))]
