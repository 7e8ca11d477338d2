"""One HTTP try: URL, headers and body -> `Answer`. Never follows, never retries, never takes longer than it may.

Every try resolves the name, checks every address it has, and connects to one of those very addresses; Host, SNI and
the certificate's name stay the URL's. A name that changes its answer between check and use (DNS rebinding) gains
nothing, since there is one look-up. httpcore is used below httpx because it is what has a place for that: its
network backend. It knows no redirects, no cookies, no proxies from the environment.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from dataclasses import replace

import httpcore

from gateway.webhooks.addresses import NOT_PUBLIC, Address, ForbiddenTargetError, Policy, Target
from gateway.webhooks.dns import Resolve, UnknownNameError, own
from gateway.webhooks.pinned_transport import Pinned, Proxy, SendError
from gateway.webhooks.schedule import Answer

KEPT_BYTES = 2048
"""So much of an answer's body is read and kept."""
_BODY_S = 2.0
"""An answer's status counts; for its body nobody waits longer than this."""
_ADDRESSES = 4


class Sender:
    """Sends payloads. Safe to share between threads; each try has a connection of its own.

    Args:
        policy: what may be called.
        agent: User-Agent.
        connect_s: for look-up and connection, in seconds.
        total_s: for the whole try.
        tls: verifies receivers; may carry a client certificate.
        proxy: an egress proxy.
        find: looks names up, in the thread of its caller and in bounded time.
    """

    def __init__(
        self,
        policy: Policy,
        find: Resolve,
        *,
        agent: str,
        connect_s: float = 5.0,
        total_s: float = 15.0,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._policy = policy
        self._agent = agent
        self._connect_s = connect_s
        self._total_s = total_s
        self._tls = tls or ssl.create_default_context()
        self._proxy = proxy
        self._find = find

    def read(self, url: str, tenant: str) -> Target:
        """Take a tenant's URL apart; nothing is looked up.

        Raises:
            ForbiddenTargetError: with a reason for the owner.
        """
        return self._policy.read(url, tenant)

    def check(self, target: Target, tenant: str) -> None:
        """Refuse a target that cannot be called now; a name that cannot be looked up for the moment passes.

        Raises:
            ForbiddenTargetError: with a reason for the owner.
        """
        try:
            self._addresses(target, tenant)
        except SendError:
            return

    def post(self, tenant: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Try once to send a tenant's payload; every way it can end is an `Answer`."""
        began = time.monotonic()
        try:
            target = self._policy.read(url, tenant)
            addresses, public = self._addresses(target, tenant)
            answer = self._post(target, addresses, headers, body, began)
            if not public:  # what answers there is not the tenant's to read
                answer = replace(answer, body=b"")
        except ForbiddenTargetError as error:
            return Answer(0, 0, error=error.code)  # no time: it would say what the name leads to
        except SendError as error:
            answer = Answer(0, 0, error=error.code)
        latency = round((time.monotonic() - began) * 1000)
        return Answer(answer.status, latency, answer.body, answer.error, answer.retry_after, answer.wish)

    def _post(
        self, target: Target, addresses: Sequence[Address], headers: dict[str, str], body: bytes, began: float
    ) -> Answer:
        backend = Pinned(addresses, began + self._connect_s, began + self._total_s, self._proxy)
        host = f"[{target.host}]" if target.literal is not None and target.literal.version == 6 else target.host
        default = {"http": 80, "https": 443}[target.scheme]
        all_headers = {
            "Host": host if target.port == default else f"{host}:{target.port}",
            "User-Agent": self._agent,
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
                backend.deadline = min(backend.deadline, time.monotonic() + _BODY_S)
                return _answer(response)
        except httpcore.TimeoutException:
            raise SendError("timeout") from None
        except httpcore.ProtocolError:
            raise SendError("protocol_error") from None
        except httpcore.NetworkError:
            raise SendError("connection_lost") from None

    def _addresses(self, target: Target, tenant: str) -> tuple[Sequence[Address], bool]:
        """Return the target's addresses, all checked (one bad one refuses all), and True if all are public."""
        found = [target.literal] if target.literal is not None else self._look_up(target)
        public = self._policy.check(target, found, tenant, own)
        return found[:_ADDRESSES], public

    def _look_up(self, target: Target) -> Sequence[Address]:
        try:
            return self._find(target.host, target.port)
        except UnknownNameError:
            raise ForbiddenTargetError("address_forbidden", NOT_PUBLIC) from None
        except TimeoutError:
            raise SendError("dns_timeout") from None
        except (OSError, UnicodeError):
            raise SendError("dns_failed") from None


def _answer(response: httpcore.Response) -> Answer:
    status = response.status
    read = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    error = "" if 200 <= status < 300 else "redirect" if 300 <= status < 400 else "http_error"
    return Answer(
        status,
        0,
        _start(response),
        error,
        read.get(b"retry-after", ""),
        read.get(b"webhook-delivery", "").strip().lower(),
    )


def _start(response: httpcore.Response) -> bytes:
    """The first bytes of the body; what comes too late or broken is left out."""
    kept = bytearray()
    try:
        for chunk in response.iter_stream():
            kept += chunk
            if len(kept) >= KEPT_BYTES:
                break
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, SendError):
        pass
    return bytes(kept[:KEPT_BYTES])
