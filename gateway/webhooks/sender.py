"""One HTTP attempt: URL, headers and body -> `AttemptResult`. No redirects, no retries, bounded time.

Every attempt resolves the name once, checks all of its addresses and connects to one of them, so that a name that
changes between check and use (DNS rebinding) gains nothing; Host, SNI and the certificate's name stay the URL's.
httpcore is used instead of httpx because its network backend can be replaced, and because it has no redirects, no
cookies and no proxies from the environment.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import httpcore

from gateway.webhooks.addresses import NOT_PUBLIC, Address, ForbiddenTargetError, Target, TargetPolicy
from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import Resolve, Resolver, UnknownNameError, is_own_address, parse_name_servers
from gateway.webhooks.pinned_transport import PinnedNetwork, Proxy, SendError
from gateway.webhooks.schedule import AttemptResult
from gateway.webhooks.settings import WebhookSettings

MAX_BODY_BYTES = 2048
"""Bytes of a response body that are read and stored."""
_BODY_TIMEOUT_S = 2.0
"""Longest wait for a response body; only the status decides about the delivery."""
_MAX_ADDRESSES = 4


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """Options of a `Sender`.

    Attributes:
        agent: the User-Agent header.
        connect_s: seconds for look-up and connection.
        total_s: seconds for the whole attempt.
        tls: verifies receivers; may carry a client certificate.
        proxy: an egress proxy.
    """

    agent: str
    connect_s: float = 5.0
    total_s: float = 15.0
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None


class Sender:
    """Sends payloads. Thread-safe; each attempt opens its own connection.

    Args:
        policy: decides which targets may be called.
        resolve: resolves names in its caller's thread, in bounded time.
        options: time limits, TLS and proxy.
    """

    def __init__(self, policy: TargetPolicy, resolve: Resolve, options: SenderOptions) -> None:
        self.policy = policy
        self._resolve = resolve
        self._options = options
        self._tls = options.tls or ssl.create_default_context()

    def check_target(self, target: Target, tenant: str) -> None:
        """Check that a target may be called; a name that cannot be resolved at the moment passes.

        Raises:
            ForbiddenTargetError: with a reason for the owner.
        """
        try:
            self._resolve_target(target, tenant)
        except SendError:
            return

    def post(self, tenant: str, url: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        """Try once to send a tenant's payload; return every outcome, errors too, as an `AttemptResult`."""
        began = time.monotonic()
        try:
            target = self.policy.parse_url(url, tenant)
            addresses, public = self._resolve_target(target, tenant)
            result = self._post(target, addresses, headers, body, began)
            if not public:  # a tenant must not read responses from inside the network
                result = replace(result, body=b"")
        except ForbiddenTargetError as error:
            return AttemptResult(0, 0, error=error.code)  # a latency would reveal if the name exists
        except SendError as error:
            result = AttemptResult(0, 0, error=error.code)
        return replace(result, latency_ms=round((time.monotonic() - began) * 1000))

    def _post(
        self, target: Target, addresses: Sequence[Address], headers: dict[str, str], body: bytes, began: float
    ) -> AttemptResult:
        options = self._options
        backend = PinnedNetwork(addresses, began + options.connect_s, began + options.total_s, options.proxy)
        host = f"[{target.host}]" if target.literal is not None and target.literal.version == 6 else target.host
        default = {"http": 80, "https": 443}[target.scheme]
        all_headers = {
            "Host": host if target.port == default else f"{host}:{target.port}",
            "User-Agent": options.agent,
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
            "Content-Length": str(len(body)),
        }
        scheme, name, path = target.scheme.encode(), target.host.encode(), target.target.encode()
        url = httpcore.URL(scheme=scheme, host=name, port=target.port, target=path)
        try:
            with (
                httpcore.ConnectionPool(self._tls, max_connections=1, network_backend=backend) as pool,
                pool.stream("POST", url, headers=list(all_headers.items()), content=body) as response,
            ):
                backend.deadline = min(backend.deadline, time.monotonic() + _BODY_TIMEOUT_S)
                return _read_result(response)
        except httpcore.TimeoutException:
            raise SendError("timeout") from None
        except httpcore.ProtocolError:
            raise SendError("protocol_error") from None
        except httpcore.NetworkError:
            raise SendError("connection_lost") from None

    def _resolve_target(self, target: Target, tenant: str) -> tuple[Sequence[Address], bool]:
        """Return the target's checked addresses, and whether all are public; one forbidden address refuses all."""
        addresses = [target.literal] if target.literal is not None else self._look_up(target)
        public = self.policy.check_addresses(target, addresses, tenant, is_own_address)
        return addresses[:_MAX_ADDRESSES], public

    def _look_up(self, target: Target) -> Sequence[Address]:
        try:
            return self._resolve(target.host, target.port)
        except UnknownNameError:
            raise ForbiddenTargetError("address_forbidden", NOT_PUBLIC) from None
        except TimeoutError:
            raise SendError("dns_timeout") from None
        except (OSError, UnicodeError):
            raise SendError("dns_failed") from None


def make_sender(settings: WebhookSettings, resolve: Resolve | None = None) -> Sender:
    """Create a sender from the settings.

    Raises:
        OSError: a certificate file cannot be read.
        ValueError: the proxy's URL is invalid.
    """
    tls = ssl.create_default_context()
    if settings.webhook_ca_file is not None:
        tls.load_verify_locations(settings.webhook_ca_file)
    if settings.webhook_client_cert is not None:
        tls.load_cert_chain(settings.webhook_client_cert)
    options = SenderOptions(
        agent=f"gleaner-webhooks/{version('gleaner-ner-service')}",
        connect_s=settings.webhook_connect_s,
        total_s=settings.webhook_timeout_s,
        tls=tls,
        proxy=Proxy.parse(settings.webhook_proxy.get_secret_value()) if settings.webhook_proxy else None,
    )
    policy = TargetPolicy(parse_allowed(",".join(settings.webhook_allow)), settings.webhook_allow_http)
    return Sender(policy, resolve or Resolver(parse_name_servers(settings.webhook_nameservers)), options)


def _read_result(response: httpcore.Response) -> AttemptResult:
    status = response.status
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    error = "" if 200 <= status < 300 else "redirect" if 300 <= status < 400 else "http_error"
    return AttemptResult(
        status,
        0,
        _read_body_start(response),
        error,
        headers.get(b"retry-after", ""),
        headers.get(b"webhook-delivery", "").strip().lower(),
    )


def _read_body_start(response: httpcore.Response) -> bytes:
    """Return the first bytes of the body, as far as they arrive in time and intact."""
    body = bytearray()
    try:
        for chunk in response.iter_stream():
            body += chunk
            if len(body) >= MAX_BODY_BYTES:
                break
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, SendError):
        pass
    return bytes(body[:MAX_BODY_BYTES])
