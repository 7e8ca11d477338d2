"""One HTTP try: URL, headers and body -> `Answer`. Never follows, never retries, never takes longer than it may.

Every try resolves the name, checks every address it has, and connects to one of those very addresses; Host, SNI and
the certificate's name stay the URL's. A name that changes its answer between check and use (DNS rebinding) gains
nothing, since there is one look-up. httpcore is used below httpx because it is what has a place for that: its
network backend. It knows no redirects, no cookies, no proxies from the environment.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpcore

from gateway.webhooks.addresses import Address, ForbiddenTargetError, Policy, Target
from gateway.webhooks.schedule import Answer

KEPT_BYTES = 2048
"""So much of an answer's body is read and kept."""
_BODY_S = 2.0
"""An answer's status counts; for its body nobody waits longer than this."""
_HEAD_BYTES = 8192
_ADDRESSES = 4

Resolve = Callable[[str, int], Sequence[Address]]


class SendError(Exception):
    """An attempt that met no answer; `code` is its class."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that CONNECTs to what was checked."""

    host: str
    port: int
    authorization: str

    @classmethod
    def read(cls, url: str) -> Proxy:
        """From `http://[user:password@]host:port`.

        Raises:
            ValueError: it is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("GLEANER_WEBHOOK_PROXY must be http://host:port")
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        token = base64.b64encode(user.encode()).decode() if parts.username else ""
        return cls(parts.hostname, parts.port or 80, f"Proxy-Authorization: Basic {token}\r\n" if token else "")


def resolve(host: str, port: int) -> Sequence[Address]:
    """Every address of a name, in the system's order.

    Raises:
        OSError: it has none, or nobody knows.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(_address(sockaddr) for *_, sockaddr in found))


def _address(sockaddr: tuple[object, ...]) -> Address:
    text = str(sockaddr[0])
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in text:
        text += f"%{sockaddr[3]}"  # an address bound to an interface stays recognisable
    return ipaddress.ip_address(text)


def own(address: Address) -> bool:
    """True for an address of this very machine: only such can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


class Sender:
    """Sends payloads. Safe to share between threads; each try has a connection of its own.

    Args:
        policy: what may be called.
        agent: User-Agent.
        connect_s: for look-up and connection, in seconds.
        total_s: for the whole try.
        tls: verifies receivers; may carry a client certificate.
        proxy: an egress proxy.
        find: how names are looked up.
        lookups: look-ups under way at once; one that hangs holds its place for as long as the system lets it.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        agent: str,
        connect_s: float = 5.0,
        total_s: float = 15.0,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        find: Resolve = resolve,
        lookups: int = 32,
    ) -> None:
        self._policy = policy
        self._agent = agent
        self._connect_s = connect_s
        self._total_s = total_s
        self._tls = tls or ssl.create_default_context()
        self._proxy = proxy
        self._find = find
        self._resolving = ThreadPoolExecutor(lookups, thread_name_prefix="resolve")

    def check(self, url: str) -> Target:
        """Refuse a URL that cannot be called now; a name that cannot be looked up for the moment passes.

        Raises:
            ForbiddenTargetError: with a reason for the owner.
        """
        target = self._policy.read(url)
        try:
            self._addresses(target, self._connect_s)
        except SendError as error:
            if error.code == "name_unknown":
                raise ForbiddenTargetError("address_forbidden", "has a host name that does not exist") from None
        return target

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """One try; every way it can end is an `Answer`."""
        began = time.monotonic()
        try:
            target = self._policy.read(url)
            answer = self._post(target, headers, body, began)
        except ForbiddenTargetError as error:
            answer = Answer(0, 0, error=error.code)
        except SendError as error:
            answer = Answer(0, 0, error=error.code)
        latency = round((time.monotonic() - began) * 1000)
        return Answer(answer.status, latency, answer.body, answer.error, answer.retry_after, answer.wish)

    def _post(self, target: Target, headers: dict[str, str], body: bytes, began: float) -> Answer:
        backend = _Pinned(
            self._addresses(target, self._connect_s), began + self._connect_s, began + self._total_s, self._proxy
        )
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

    def _addresses(self, target: Target, within_s: float) -> Sequence[Address]:
        """The target's addresses, each of them checked: one bad one refuses all."""
        found = [target.literal] if target.literal is not None else self._look_up(target, within_s)
        for address in found:
            self._policy.check(address, own=own(address))
        return found[:_ADDRESSES]

    def _look_up(self, target: Target, within_s: float) -> Sequence[Address]:
        try:
            found = self._resolving.submit(self._find, target.host, target.port).result(within_s)
        except TimeoutError:
            raise SendError("dns_timeout") from None
        except socket.gaierror as error:
            raise SendError("name_unknown" if error.errno in _UNKNOWN else "dns_failed") from None
        except (OSError, UnicodeError):
            raise SendError("dns_failed") from None
        if not found:
            raise SendError("name_unknown")
        return found


_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


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
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        pass
    return bytes(kept[:KEPT_BYTES])


class _Pinned(httpcore.NetworkBackend):
    """Connects to the checked addresses, whatever name it is asked for, and holds everything to one deadline."""

    def __init__(
        self, addresses: Sequence[Address], connect_by: float, deadline: float, proxy: Proxy | None
    ) -> None:
        self._addresses = addresses
        self._connect_by = connect_by
        self._proxy = proxy
        self._plain = httpcore.SyncBackend()
        self.deadline = deadline

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            httpcore.ReadTimeout: it is over.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first checked address that takes it."""
        code = "connect_failed"
        for address in self._addresses:
            left = self._connect_by - time.monotonic()
            if left <= 0:
                code = "connect_timeout"
                break
            try:
                return _Stream(self._reach(str(address), port, left), self)
            except httpcore.ConnectTimeout:
                code = "connect_timeout"
            except httpcore.ConnectError:
                code = "connect_failed"
        raise SendError(code)

    def _reach(self, address: str, port: int, left: float) -> httpcore.NetworkStream:
        if self._proxy is None:
            return self._plain.connect_tcp(address, port, timeout=left)
        stream = self._plain.connect_tcp(self._proxy.host, self._proxy.port, timeout=left)
        try:
            self._tunnel(stream, f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        except BaseException:
            stream.close()
            raise
        return stream

    def _tunnel(self, stream: httpcore.NetworkStream, to: str) -> None:
        authorization = self._proxy.authorization if self._proxy else ""
        stream.write(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{authorization}\r\n".encode(), self.left())
        head = b""
        try:
            while not head.endswith(b"\r\n\r\n"):
                byte = stream.read(1, self.left())  # what follows the head is the receiver's
                if not byte or len(head) > _HEAD_BYTES:
                    raise SendError("proxy_failed")
                head += byte
        except httpcore.NetworkError:
            raise SendError("proxy_failed") from None
        if head.split(b" ", 2)[1:2] != [b"200"]:
            raise SendError("proxy_refused")


class _Stream(httpcore.NetworkStream):
    """A connection on which nothing waits beyond the deadline: a byte every now and then does not keep it alive."""

    def __init__(self, inner: httpcore.NetworkStream, backend: _Pinned) -> None:
        self._inner = inner
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        return self._inner.read(max_bytes, self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        self._inner.write(buffer, self._backend.left())

    def close(self) -> None:
        """See httpcore."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """TLS for the URL's own name."""
        try:
            inner = self._inner.start_tls(ssl_context, server_hostname, self._backend.left())
        except httpcore.ConnectError as error:
            code = "tls_failed" if isinstance(error.__cause__, ssl.SSLError) else "connection_lost"
            raise SendError(code) from None
        return _Stream(inner, self._backend)

    def get_extra_info(self, info: str) -> object:
        """See httpcore."""
        return self._inner.get_extra_info(info)
