"""A network for httpcore that leads to addresses that were checked, and to nothing else, within one deadline."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpcore

from gateway.webhooks.addresses import Address

_HEAD_BYTES = 8192
_ANSWER_BYTES = 32 * 1024
"""Most bytes of an answer that are read. Interim answers (100 Continue) have no end by themselves, and h11 takes
250 bytes of memory for each byte of a status line."""
_PIECE_BYTES = 16 * 1024


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


class Pinned(httpcore.NetworkBackend):
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

    def __init__(self, inner: httpcore.NetworkStream, backend: Pinned) -> None:
        self._inner = inner
        self._backend = backend
        self._left_bytes = _ANSWER_BYTES

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        piece = self._inner.read(min(max_bytes, _PIECE_BYTES), self._backend.left())
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise SendError("protocol_error")
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        for start in range(0, len(buffer), _PIECE_BYTES):  # each write below may wait for as long as it is given
            self._inner.write(buffer[start : start + _PIECE_BYTES], self._backend.left())

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
