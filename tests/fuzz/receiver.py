"""Targets that need a server: responses of a webhook's receiver, and of a name server."""

from __future__ import annotations

import functools
import socket
import struct
import threading
from datetime import UTC, datetime
from email.utils import formatdate
from ipaddress import ip_address

import dns.message
import dns.rrset

from gateway.webhooks.addresses import TargetPolicy
from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import Resolver
from gateway.webhooks.schedule import STANDARD
from gateway.webhooks.sender import MAX_BODY_BYTES, Sender, SenderOptions
from tests.fuzz.harness import Target


class _Says:
    """Two servers on one port of loopback, TCP and UDP, that send the bytes that they are given."""

    def __init__(self) -> None:
        self.data = b""
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._tcp.getsockname()[1])
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        for serve in (self._answer, self._reply):
            threading.Thread(target=serve, daemon=True).start()

    def _answer(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                connection.settimeout(1)
                try:
                    connection.recv(65536)
                    connection.sendall(self.data)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # closing with unread bytes would reset the connection
                        continue
                except OSError:
                    continue

    def _reply(self) -> None:
        while True:
            wire, client = self._udp.recvfrom(4096)
            self._udp.sendto(wire[:2] + self.data[2:], client)  # the right id, whatever else


@functools.cache
def _server() -> _Says:
    return _Says()


def answer_target() -> Target:
    """Return the target of a receiver's HTTP answers."""
    policy = TargetPolicy(allow=parse_allowed("127.0.0.0/8"), allow_http=True)
    sender = Sender(
        policy, lambda host, port: [ip_address("127.0.0.1")], SenderOptions("t", connect_s=1, total_s=1)
    )

    def run(data: bytes) -> None:
        server = _server()
        server.data = data
        answer = sender.post("t", f"http://127.0.0.1:{server.port}/", {}, b"{}")
        assert len(answer.body) <= MAX_BODY_BYTES
        verdict = STANDARD.judge_attempt(answer, 1, 0.5, datetime.now(UTC))
        assert 0 <= verdict.delay_ms <= 1_000_000

    date = formatdate(2_000_000_000, usegmt=True).encode()
    corpus = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\nRetry-After: 120\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ),
        b"HTTP/1.1 429 Slow\r\nRetry-After: "
        + date
        + b"\r\nwebhook-delivery: disable\r\nContent-Length: 0\r\n\r\n",
    )
    tokens = (b"HTTP/1.1 100 C\r\n\r\n", b"Retry-After: ", b"\r\n ", b"1;x\r\na\r\n", b"Content-Length: 9\r\n")
    return Target(corpus, run, (), tokens, cpu_s=0.5, memory=12_000_000, memory_per_byte=0)


def reply_target() -> Target:
    """Return the target of a name server's replies."""

    def run(data: bytes) -> None:
        server = _server()
        server.data = data
        resolver = Resolver([("127.0.0.1", server.port)], within_s=0.05)
        resolver("hooks.example", 443)

    def sample(*records: tuple[str, int, str, str, str]) -> bytes:
        reply = dns.message.make_response(dns.message.make_query("hooks.example.", "A"), recursion_available=True)
        reply.answer = [dns.rrset.from_text(*record) for record in records]
        return reply.to_wire()

    chain = (("hooks.example.", 60, "IN", "CNAME", "b.example."), ("b.example.", 60, "IN", "A", "10.0.0.1"))
    corpus = (sample(("hooks.example.", 60, "IN", "A", "10.0.0.1")), sample(*chain))
    tokens = (b"\xc0\x0c", b"\xc0\x00", struct.pack("!HH", 65535, 1), b"\x01a")
    # A resolver repeats its question while there is time; this much of it is CPU.
    return Target(corpus, run, (OSError,), tokens, cpu_s=0.5, memory=4_000_000, largest=4096)
