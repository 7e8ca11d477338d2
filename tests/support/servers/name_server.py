"""A name server on loopback, UDP and TCP on one port: a name's first label selects the kind of answer."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer:
    """A running server.

    Attributes:
        records: names with their addresses; a name's first label may be one of those that `_answer` knows.
        ttl: seconds, of its answers.
        questions: count by (name, kind).
        by_tcp: questions by TCP, by name.
        tarpit_asked: set once a name that is never answered was looked up.
    """

    port: int
    records: dict[str, list[str]] = field(default_factory=dict)
    ttl: int = 60
    questions: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_tcp: Counter[str] = field(default_factory=Counter)
    tarpit_asked: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> tuple[str, int]:
        """Return where it listens."""
        return "127.0.0.1", self.port

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return the reply to a question; None: none."""
        question = dns.message.from_wire(wire)
        [entry] = question.question
        name, kind = entry.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(entry.rdtype)
        self.questions[name, kind] += 1
        if tcp:
            self.by_tcp[name] += 1
        behaviour = name.partition(".")[0]
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.RA
        if behaviour == "never":
            self.tarpit_asked.set()
            return None
        if behaviour == "garbage":
            return wire[:2] + b"\xff" * 40
        if behaviour == "slow":
            self.ending.wait(0.5)
        if behaviour == "servfail":
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply.to_wire()
        if behaviour == "noaaaa" and kind == "AAAA":
            return None
        addresses = self.records.get(name)
        if addresses is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return reply.to_wire()
        if behaviour == "truncated" and not tcp:
            reply.flags |= dns.flags.TC
            return reply.to_wire()
        self._fill(reply, name, kind, addresses)
        return reply.to_wire(max_size=65535)

    def _fill(self, reply: dns.message.Message, name: str, kind: str, addresses: list[str]) -> None:
        owner = name + "."
        if name.startswith("chain"):
            for step in range(int(name.partition(".")[0].removeprefix("chain") or 3)):
                reply.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "CNAME", f"step{step}.example."))
                owner = f"step{step}.example."
        matching = [address for address in addresses if (":" in address) == (kind == "AAAA")]
        if matching:
            reply.answer.append(dns.rrset.from_text_list(owner, self.ttl, "IN", kind, matching))


def _serve_udp(server: NameServer, listener: socket.socket) -> None:
    while not server.ending.is_set():
        try:
            wire, client = listener.recvfrom(4096)
        except OSError:
            return
        if not wire:
            return  # shut

        def reply(wire: bytes = wire, client: tuple[str, int] = client) -> None:
            answer = server.answer(wire, tcp=False)
            if answer is not None:
                with contextlib.suppress(OSError):  # the server has ended
                    listener.sendto(answer, client)

        threading.Thread(target=reply, daemon=True).start()


def _serve_tcp(server: NameServer, listener: socket.socket) -> None:
    while not server.ending.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_converse, args=(server, connection), daemon=True).start()


def _converse(server: NameServer, connection: socket.socket) -> None:
    with connection:
        connection.settimeout(5)
        try:
            size = struct.unpack("!H", connection.recv(2))[0]
            answer = server.answer(connection.recv(size), tcp=True)
            if answer is not None:
                connection.sendall(struct.pack("!H", len(answer)) + answer)
        except (OSError, struct.error):
            return


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Run a server until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        server = NameServer(tcp.getsockname()[1])
        udp.bind(server.address)
        for serve, listener in ((_serve_udp, udp), (_serve_tcp, tcp)):
            threading.Thread(target=serve, args=(server, listener), daemon=True).start()
        try:
            yield server
        finally:
            server.ending.set()
            for listener in (udp, tcp):
                with contextlib.suppress(OSError):  # wakes accept; UDP has no connection to shut
                    listener.shutdown(socket.SHUT_RDWR)


def write_conf(folder: Path, text: str) -> Path:
    """Write a resolver configuration."""
    path = folder / f"resolv-{time.monotonic_ns()}.conf"
    path.write_text(text)
    return path
