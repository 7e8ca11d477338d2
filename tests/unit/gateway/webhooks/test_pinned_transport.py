"""Connections to checked addresses, against real sockets: order, deadline, size, and the proxy's answers."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpcore
import pytest

from gateway.webhooks.pinned_transport import PinnedNetwork, Proxy, SendError

HERE = ipaddress.ip_address("127.0.0.1")


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection with `talk`, then close it; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.settimeout(10)
                talk(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def make_network(*, seconds: float = 10, proxy_port: int | None = None) -> PinnedNetwork:
    """Return a network that may connect to this machine only."""
    by = time.monotonic() + seconds
    return PinnedNetwork([HERE], by, by, None if proxy_port is None else Proxy("127.0.0.1", proxy_port, ""))


def read_all(stream: httpcore.NetworkStream, max_bytes: int = 1 << 20) -> bytes:
    """Read until the other side closes, at most 5 seconds."""
    received, stop_at = b"", time.monotonic() + 5
    while time.monotonic() < stop_at and (chunk := stream.read(max_bytes)):
        received += chunk
    return received


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128, "")),
        ("http://proxy", Proxy("proxy", 80, "")),
        # pragma: allowlist nextline secret
        ("http://u%40x:p%3A@proxy:1", Proxy("proxy", 1, "Proxy-Authorization: Basic dUB4OnA6\r\n")),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, proxy: Proxy) -> None:
    """Escaped characters of the user and password are sent as they are meant."""
    assert Proxy.parse(url) == proxy


@pytest.mark.parametrize("url", ["https://proxy:1", "proxy:3128", "http://", ""])
def test_another_kind_of_proxy_is_refused(url: str) -> None:
    """The gateway does not start with a proxy that it cannot use."""
    with pytest.raises(ValueError, match="GLEANER_WEBHOOK_PROXY"):
        Proxy.parse(url)


def test_the_host_name_decides_nothing() -> None:
    """The connection goes to the checked address, whatever the name would resolve to now."""
    with serving(lambda client: client.sendall(b"hello")) as port:
        stream = make_network().connect_tcp("hooks.example.com", port)
        assert stream.read(5) == b"hello"
        stream.close()


def test_an_address_that_refuses_is_an_error_with_a_code() -> None:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SendError, match="connect_failed"):
        make_network().connect_tcp("hooks.example.com", port)


def test_no_connection_begins_after_the_deadline() -> None:
    """The time for connecting is over, so that no address is tried."""
    with pytest.raises(SendError, match="connect_timeout"):
        make_network(seconds=0).connect_tcp("hooks.example.com", 9)


def test_a_byte_every_now_and_then_does_not_prolong_the_attempt() -> None:
    """The deadline is for the whole attempt, not for each read."""

    def trickle(client: socket.socket) -> None:
        try:
            while True:
                client.sendall(b"x")
                time.sleep(0.02)
        except OSError:
            return  # the other side has closed the connection, as it should

    with serving(trickle) as port:
        stream = make_network(seconds=0.5).connect_tcp("hooks.example.com", port)
        with pytest.raises(httpcore.ReadTimeout):
            read_all(stream, 1)
        stream.close()


def test_a_response_is_read_up_to_a_limit() -> None:
    """32 KiB are read, and a response with one more byte is an error: an endless one costs a bounded number."""
    with serving(lambda client: client.sendall(b"x" * 32 * 1024)) as port:
        stream = make_network().connect_tcp("hooks.example.com", port)
        assert len(read_all(stream)) == 32 * 1024
        stream.close()
    with serving(lambda client: client.sendall(b"x" * (32 * 1024 + 1))) as port:
        stream = make_network().connect_tcp("hooks.example.com", port)
        with pytest.raises(SendError, match="protocol_error"):
            read_all(stream)
        stream.close()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "proxy_refused"),
        (b"HTTP/1.1 2000 Strange\r\n\r\n", "proxy_refused"),
        (b"", "proxy_failed"),
        (b"HTTP/1.1 200 OK\r\n", "proxy_failed"),
        (b"x" * 8300, "proxy_failed"),
    ],
)
def test_a_proxy_without_a_tunnel_is_an_error(answer: bytes, code: str) -> None:
    """Nothing of the payload is sent to a proxy that refused, hung up, or talks without end."""

    def talk(client: socket.socket) -> None:
        while not client.recv(65536).endswith(b"\r\n\r\n"):
            pass
        client.sendall(answer)

    with serving(talk) as port, pytest.raises(SendError, match=code):
        make_network(proxy_port=port).connect_tcp("hooks.example.com", 443)


def test_the_bytes_after_the_proxy_s_answer_are_the_receiver_s() -> None:
    """A receiver that speaks first loses nothing."""

    def talk(client: socket.socket) -> None:
        while not client.recv(65536).endswith(b"\r\n\r\n"):
            pass
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")

    with serving(talk) as port:
        stream = make_network(proxy_port=port).connect_tcp("hooks.example.com", 443)
        assert stream.read(100) == b"hello"
        stream.close()
