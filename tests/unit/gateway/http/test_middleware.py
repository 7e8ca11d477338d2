"""Every request passes here: its id, HTTPS, headers, limits without a key, logs and metrics."""

from __future__ import annotations

import logging
from typing import Any, Literal

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.anonymous import AnonymousRate
from gateway.access.rate_limits import RateLimit, RateLimitStatus
from gateway.errors import StreamAbortedError
from gateway.http.middleware import EdgeMiddleware, get_request_id, report_rate_limits
from gateway.settings import GatewaySettings
from jobs.observability.metrics import GatewayMetrics

pytestmark = pytest.mark.anyio

Mode = Literal["off", "redirect", "require"]


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the id of the request."""
    await PlainTextResponse(get_request_id(scope))(scope, receive, send)


class Edge:
    """The middleware around an app, and what it sent."""

    def __init__(
        self, app: ASGIApp = respond, https: Mode = "off", hosts: tuple[str, ...] = (), per_minute: int = 0
    ) -> None:
        self.registry = CollectorRegistry()
        metrics = GatewayMetrics(self.registry)
        settings = GatewaySettings(auth="off", https=https, hsts_s=60, https_hosts=hosts)
        self.app = EdgeMiddleware(app, metrics, AnonymousRate(per_minute, metrics), settings)
        self.sent: list[Message] = []

    async def get(self, path: str = "/v1/jobs", scheme: str = "http", **options: Any) -> tuple[int, dict[str, str]]:
        """Send a request; return status and headers of the response, 0 without one."""
        headers = {"host": "gateway.example"} | options.get("headers", {})
        scope: dict[str, Any] = {
            "type": "http", "method": options.get("method", "GET"), "path": path, "scheme": scheme,
            "query_string": options.get("query", b""), "client": ("192.0.2.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self.sent = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.app(scope, receive, send)
        if not self.sent:
            return 0, {}
        start = self.sent[0]
        return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}

    def count_requests(self, status: int) -> float:
        """Return the number of counted requests with this status."""
        labels = {"route": "other", "method": "GET", "status": str(status)}
        return self.registry.get_sample_value("gleaner_http_requests_total", labels) or 0


@pytest.mark.parametrize(
    ("client_id", "is_used"),
    [
        ("abc-1.2_3", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("two words", False),
        ("a\u00ff", False),
        ("", False),
    ],
)
async def test_a_request_id_is_the_client_s_if_it_is_a_plain_token(client_id: str, is_used: bool) -> None:
    """Anything else could forge a line of the log; the response and the app see the same id."""
    edge = Edge()
    _, headers = await edge.get(headers={"x-request-id": client_id})
    assert (headers["x-request-id"] == client_id) is is_used
    assert len(headers["x-request-id"]) == (len(client_id) if is_used else 32)
    assert edge.sent[1]["body"].decode() == headers["x-request-id"]


async def test_routes_keep_their_own_security_headers_and_get_the_others() -> None:
    """A page has a policy that suits it; the id of a request cannot be replaced."""

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-security-policy": "page", "x-request-id": "forged"}
        await PlainTextResponse("", headers=headers)(scope, receive, send)

    _, headers = await Edge(page).get()
    assert headers["content-security-policy"] == "page"
    assert headers["x-request-id"] != "forged"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_rate_limits_reported_in_several_steps_are_all_sent() -> None:
    """A submission is counted before its body is read, and again with its documents."""
    requests = RateLimitStatus(RateLimit("requests", "key", "k", 5), 4, 1)
    documents = RateLimitStatus(RateLimit("documents", "tenant", "t", 100), 98, 86_400)

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        report_rate_limits(scope, [requests])
        report_rate_limits(scope, [documents])
        await respond(scope, receive, send)

    _, headers = await Edge(limited).get()
    assert headers["ratelimit"] == '"requests-key";r=4;t=1, "documents-tenant";r=98;t=86400'
    assert headers["ratelimit-policy"] == '"requests-key";q=5;w=1, "documents-tenant";q=100;w=86400'
    assert "ratelimit" not in (await Edge().get())[1]


@pytest.mark.parametrize(
    ("https", "method", "hosts", "status"),
    [
        ("off", "GET", (), 200),
        ("redirect", "GET", (), 308),
        ("redirect", "HEAD", ("GATEWAY.example",), 308),
        ("redirect", "GET", ("other.example",), 403),
        ("redirect", "POST", (), 403),
        ("require", "GET", (), 403),
    ],
)
async def test_plain_http_is_served_redirected_or_refused(
    https: Mode, method: str, hosts: tuple[str, ...], status: int
) -> None:
    """Only what carries no body is redirected, to a host of this service."""
    edge = Edge(https=https, hosts=hosts)
    got, headers = await edge.get("/v1/jöbs", method=method, query=b"a=1")
    assert got == status
    if status == 308:
        assert headers["location"] == "https://gateway.example/v1/j%C3%B6bs?a=1"
    assert (await edge.get("/livez"))[0] == 200
    assert (await edge.get(scheme="https", method=method))[0] == 200


@pytest.mark.parametrize("host", ["", "evil.example/path", "a b", "user@evil.example", "evil.example:x"])
async def test_a_strange_host_is_not_redirected_to(host: str) -> None:
    """It could lead anywhere."""
    assert (await Edge(https="redirect").get(headers={"host": host}))[0] == 403


async def test_browsers_are_told_to_use_https_over_https_only() -> None:
    """And never if HTTPS is off."""
    name = "strict-transport-security"
    assert (await Edge(https="require").get(scheme="https"))[1][name] == "max-age=60"
    assert name not in (await Edge(https="require").get("/livez"))[1]
    assert name not in (await Edge().get(scheme="https"))[1]


async def test_pages_without_a_key_are_limited_and_probes_are_not() -> None:
    """Routes of the API count for themselves, after they looked for a key."""
    edge = Edge(per_minute=1)
    assert [(await edge.get("/docs"))[0] for _ in range(2)] == [200, 429]
    assert [(await edge.get("/livez"))[0] for _ in range(3)] == [200] * 3
    assert [(await edge.get("/v1/models"))[0] for _ in range(3)] == [200] * 3


async def test_an_unexpected_error_is_answered_and_logged_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The message may quote a text."""

    async def broken(*_: Any) -> None:
        raise ValueError("a text of a client")

    edge = Edge(broken)
    status, headers = await edge.get()
    assert (status, headers["content-type"]) == (500, "application/problem+json")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["error"] == "ValueError"
    assert "a text" not in str(record.__dict__) + str(edge.sent)
    assert edge.count_requests(500) == 1


async def test_a_response_that_has_begun_is_not_followed_by_another() -> None:
    """An error in the middle ends it; a broken stream has no last chunk, so that the server cuts the connection."""

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise StreamAbortedError("job_purged")

    edge = Edge(stream)
    assert (await edge.get())[0] == 200
    assert [message["type"] for message in edge.sent] == ["http.response.start", "http.response.body"]
    assert edge.sent[-1]["more_body"]


async def test_a_client_that_goes_away_counts_as_499() -> None:
    """It is no error of the service."""

    async def gone(*_: Any) -> None:
        raise ClientDisconnect

    edge = Edge(gone)
    assert (await edge.get())[0] == 0
    assert edge.count_requests(499) == 1


async def test_metrics_have_no_label_that_clients_choose() -> None:
    """An unknown method or path is `other`; a matched route is its template."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = type("Route", (), {"path_format": "/v1/jobs/{job_id}"})
        await respond(scope, receive, send)

    edge = Edge(routed)
    await edge.get("/v1/jobs/job_1", method="BREW")
    labels = {"route": "/v1/jobs/{job_id}", "method": "other", "status": "200"}
    assert edge.registry.get_sample_value("gleaner_http_requests_total", labels) == 1


async def test_what_is_not_http_passes_unchanged() -> None:
    """The lifespan of the app."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Edge(app).app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
