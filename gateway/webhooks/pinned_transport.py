"""A network backend for httpcore that connects to checked addresses only, within one deadline."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpcore

from gateway.webhooks.addresses import Address

_MAX_HEAD_BYTES = 8192
_MAX_RESPONSE_BYTES = 32 * 1024
"""Most bytes of a response that are read. Interim responses (100 Continue) may never end, and h11 needs 250 bytes
of memory for each byte of a status line."""
_CHUNK_BYTES = 16 * 1024


class SendError(Exception):
    """An attempt without a response; `code` is the class of the error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that CONNECTs to checked addresses."""

    host: str
    port: int
    authorization: str

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Parse `http://[user:password@]host:port`.

        Raises:
            ValueError: the URL has another form.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("GLEANER_WEBHOOK_PROXY must be http://host:port")
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        token = base64.b64encode(user.encode()).decode() if parts.username else ""
        return cls(parts.hostname, parts.port or 80, f"Proxy-Authorization: Basic {token}\r\n" if token else "")


class PinnedNetwork(httpcore.NetworkBackend):
    """Connects to the checked addresses, whatever the host name, and enforces one deadline."""

    def __init__(
        self, addresses: Sequence[Address], connect_by: float, deadline: float, proxy: Proxy | None
    ) -> None:
        self._addresses = addresses
        self._connect_by = connect_by
        self._proxy = proxy
        self._plain = httpcore.SyncBackend()
        self.deadline = deadline

    def remaining_s(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            httpcore.ReadTimeout: it has passed.
        """
        remaining_s = self.deadline - time.monotonic()
        if remaining_s <= 0:
            raise httpcore.ReadTimeout
        return remaining_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first checked address that accepts."""
        code = "connect_failed"
        for address in self._addresses:
            timeout_s = self._connect_by - time.monotonic()
            if timeout_s <= 0:
                code = "connect_timeout"
                break
            try:
                return _Stream(self._connect(str(address), port, timeout_s), self)
            except httpcore.ConnectTimeout:
                code = "connect_timeout"
            except httpcore.ConnectError:
                code = "connect_failed"
        raise SendError(code)

    def _connect(self, address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:
        if self._proxy is None:
            return self._plain.connect_tcp(address, port, timeout=timeout_s)
        stream = self._plain.connect_tcp(self._proxy.host, self._proxy.port, timeout=timeout_s)
        try:
            self._open_tunnel(stream, f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        except BaseException:
            stream.close()
            raise
        return stream

    def _open_tunnel(self, stream: httpcore.NetworkStream, target: str) -> None:
        authorization = self._proxy.authorization if self._proxy else ""
        stream.write(
            f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n".encode(), self.remaining_s()
        )
        head = b""
        try:
            while not head.endswith(b"\r\n\r\n"):
                byte = stream.read(1, self.remaining_s())  # bytes after the head are the receiver's
                if not byte or len(head) > _MAX_HEAD_BYTES:
                    raise SendError("proxy_failed")
                head += byte
        except httpcore.NetworkError:
            raise SendError("proxy_failed") from None
        if head.split(b" ", 2)[1:2] != [b"200"]:
            raise SendError("proxy_refused")


class _Stream(httpcore.NetworkStream):
    """A connection bound to the deadline; a byte every now and then does not keep it alive."""

    def __init__(self, inner: httpcore.NetworkStream, backend: PinnedNetwork) -> None:
        self._inner = inner
        self._backend = backend
        self._remaining_bytes = _MAX_RESPONSE_BYTES

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        chunk = self._inner.read(min(max_bytes, _CHUNK_BYTES), self._backend.remaining_s())
        self._remaining_bytes -= len(chunk)
        if self._remaining_bytes < 0:
            raise SendError("protocol_error")
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        for start in range(0, len(buffer), _CHUNK_BYTES):  # the timeout is for each write
            self._inner.write(buffer[start : start + _CHUNK_BYTES], self._backend.remaining_s())

    def close(self) -> None:
        """See httpcore."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Start TLS with the URL's host name."""
        try:
            inner = self._inner.start_tls(ssl_context, server_hostname, self._backend.remaining_s())
        except httpcore.ConnectError as error:
            code = "tls_failed" if isinstance(error.__cause__, ssl.SSLError) else "connection_lost"
            raise SendError(code) from None
        return _Stream(inner, self._backend)

    def get_extra_info(self, info: str) -> object:
        """See httpcore."""
        return self._inner.get_extra_info(info)
