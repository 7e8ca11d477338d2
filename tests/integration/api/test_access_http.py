"""HTTP's own defences: https, headers, other origins, proxies, compressed bodies, all on the real app."""

from __future__ import annotations

import gzip
import json
import ssl
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.http.problems import REGISTRY
from gateway.settings import GatewaySettings
from tests.support.api import Api, running_api
from tests.support.processes.harness import ServiceHarness
from tests.support.servers.certificates import Authority

pytestmark = pytest.mark.anyio

APP = "https://app.example.com"


@pytest.fixture
def gateway(ledger_url: str, broker_url: str, tmp_path: Path) -> Any:
    """Start a gateway with these settings."""

    def start(**settings: Any) -> AbstractAsyncContextManager[Api]:
        return running_api(ledger_url, broker_url, tmp_path, **settings)

    return start


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nowhere", "/docs", "/redoc", "/problems/none", "/livez"])
async def test_every_answer_defends_the_browser_that_shows_it(gateway: Any, path: str) -> None:
    """No sniffing, framing, referrers, caching, or content from elsewhere; the request has an id."""
    async with gateway() as api:
        headers = (await api.client.get(path, headers={"X-Request-ID": "mine-1"})).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy
        assert "script-src 'unsafe" not in policy
        assert headers["x-request-id"] == "mine-1"
        assert "server" not in headers


async def test_no_page_loads_anything_from_elsewhere(gateway: Any) -> None:
    """Swagger UI and ReDoc come from this very server."""
    async with gateway() as api:
        for page in ("/", "/docs", "/redoc"):
            assert "//" not in (await api.client.get(page)).text.replace("<!doctype html>", "")


async def test_other_origins_are_kept_out_by_default(gateway: Any) -> None:
    """No CORS header, whoever asks."""
    async with gateway() as api:
        answer = await api.client.get("/v1/models", headers={"Origin": APP})
        preflight = await api.client.options("/v1/jobs", headers=_preflight(APP, "authorization"))
        for response in (answer, preflight):
            assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_listed_origin_may_call_and_no_other(gateway: Any) -> None:
    """With a key in a header, never with a cookie; it can read the headers it needs to wait well."""
    async with gateway(cors_origins=APP, auth_cookie=True) as api:
        preflight = await api.client.options("/v1/jobs", headers=_preflight(APP, "authorization,idempotency-key"))
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, APP)
        assert "access-control-allow-credentials" not in preflight.headers
        answer = await api.client.get("/v1/models", headers={"Origin": APP})
        assert "Retry-After" in answer.headers["access-control-expose-headers"]

        for origin, header in (("https://evil.example", "authorization"), (APP, "x-gleaner-csrf")):
            refused = await api.client.options("/v1/jobs", headers=_preflight(origin, header))
            assert refused.status_code == 400
        other = await api.client.get("/v1/models", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("bad", ["*", "app.example.com", "https://app.example.com/path", "ftp://a"])
def test_what_is_no_origin_stops_the_start(bad: str) -> None:
    """A wildcard, too: whoever wants it must list who it is for."""
    with pytest.raises(ValueError, match="origin"):
        GatewaySettings(cors_origins=bad, auth="off")  # type: ignore[arg-type]  # as the environment gives it


async def test_plain_http_is_refused_where_https_is_required(gateway: Any) -> None:
    """Plain HTTP reaches probes alone; responses over HTTPS send HSTS."""
    async with gateway(https="require", trusted_proxies="127.0.0.0/8") as api:
        plain = await api.client.get("/v1/models")
        assert (plain.status_code, plain.json()["code"]) == (403, "https_required")
        assert "strict-transport-security" not in plain.headers
        assert (await api.client.get("/livez")).status_code == 200
        secure = await api.client.get("/v1/models", headers={"X-Forwarded-Proto": "https"})
        assert (secure.status_code, secure.headers["strict-transport-security"]) == (200, "max-age=31536000")


async def test_plain_http_is_sent_to_https_where_that_is_safe(gateway: Any) -> None:
    """A GET is; a body is not asked to go twice."""
    async with gateway(https="redirect") as api:
        sent = await api.client.get("/v1/models?a=b")
        assert (sent.status_code, sent.headers["location"]) == (308, "https://gateway/v1/models?a=b")
        posted = await api.client.post("/v1/jobs", json={})
        assert (posted.status_code, posted.json()["code"]) == (403, "https_required")


@pytest.mark.parametrize(
    "host", ["evil.example/x", "a b", "a@evil.example", "a?b", "a:b", "[::1]:x", "", "a#", "ä"]
)
async def test_nobody_is_sent_to_a_host_that_is_none(gateway: Any, host: str) -> None:
    """The Host of a request is text from outside."""
    async with gateway(https="redirect") as api:
        answer = await api.client.get("/v1/models", headers={"Host": host.encode("latin-1")})
        assert (answer.status_code, "location" in answer.headers) == (403, False)


async def test_the_hosts_to_be_sent_to_can_be_named(gateway: Any) -> None:
    """In any case of letters, with any port; the path stays as it came."""
    async with gateway(https="redirect", https_hosts="api.example.com, [::1]") as api:
        for host, to in (("API.example.com", "https://API.example.com"), ("[::1]:8443", "https://[::1]:8443")):
            answer = await api.client.get("/v1/jobs/a%2Fb", headers={"Host": host})
            assert answer.headers["location"] == f"{to}/v1/jobs/a%2Fb"
        assert (await api.client.get("/v1/models", headers={"Host": "evil.example"})).status_code == 403


async def test_forwarded_headers_of_strangers_are_not_believed(gateway: Any) -> None:
    """Only of the proxies that the settings name."""
    for trusted in ("", "10.0.0.0/8"):
        async with gateway(https="require", trusted_proxies=trusted) as api:
            answer = await api.client.get("/v1/models", headers={"X-Forwarded-Proto": "https"})
            assert answer.status_code == 403


async def test_a_compressed_job_is_a_job(gateway: Any) -> None:
    """From the header to the ledger."""
    async with gateway() as api:
        body = gzip.compress(json.dumps({"labels": ["Ada"], "documents": [{"text": "Ada"}]}).encode())
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await api.client.post("/v1/jobs", content=body, headers=headers)
        assert answer.status_code == 202
        broken = await api.client.post("/v1/jobs", content=body[:-9], headers=headers)
        assert (broken.status_code, broken.json()["code"]) == (400, "bad_content_encoding")


@pytest.mark.parametrize("depth", [200, 100_000])
async def test_json_of_any_depth_is_refused(gateway: Any, depth: int) -> None:
    """JSON of any depth gets 400 or 422 at once: the parser bounds the depth, the schema the rest."""
    async with gateway() as api:
        body = b'{"labels":' + b"[" * depth + b"]" * depth + b"}"
        answer = await api.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)


async def test_each_error_has_a_page_with_an_example(gateway: Any) -> None:
    """For programs as JSON, for people as HTML."""
    async with gateway() as api:
        for code in REGISTRY:
            body = (await api.client.get(f"/problems/{code}")).json()
            assert body["example"]["code"] == body["code"] == code
            page = await api.client.get(f"/problems/{code}", headers={"Accept": "text/html,*/*"})
            assert page.headers["content-type"].startswith("text/html")
            assert f"<code>{code}</code>" in page.text


def test_the_gateway_itself_speaks_tls(tmp_path: Path) -> None:
    """With its own certificate, and with clients' where an authority for them is named."""
    authority = Authority.make(tmp_path)
    (certificate, key), (shown, shown_key) = authority.issue("localhost"), authority.issue("client")
    harness = ServiceHarness()
    try:
        child = harness.gateway(
            GLEANER_TLS_CERT_FILE=str(certificate),
            GLEANER_TLS_KEY_FILE=str(key),
            GLEANER_TLS_CLIENT_CA_FILE=str(authority.path),
            GLEANER_HTTPS="require",
        ).wait_ready()
        url = child.url.replace("http://127.0.0.1", "https://localhost") + "/v1/models"
        context = ssl.create_default_context(cafile=str(authority.path))
        with pytest.raises(httpx.HTTPError):
            httpx.get(url, verify=context, trust_env=False)
        context.load_cert_chain(shown, shown_key)
        answer = httpx.get(url, verify=context, trust_env=False)
        assert (answer.status_code, "strict-transport-security" in answer.headers) == (200, True)
        with pytest.raises(httpx.HTTPError):
            httpx.get(child.url + "/v1/models", trust_env=False)
    finally:
        harness.close()


def _preflight(origin: str, headers: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": headers,
    }
