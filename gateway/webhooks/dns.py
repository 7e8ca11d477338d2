"""Resolves host names for webhooks through /etc/hosts and DNS within a deadline.

The system's getaddrinfo has no deadline: a name server that never answers blocks its thread for half a minute. This
resolver reads the same files (search domains and ndots included) and gives up in time. It caches addresses for the
record's TTL, but not whole replies, which may be 64 KiB long.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from gateway.webhooks.addresses import Address

T = TypeVar("T")
Resolve = Callable[[str, int], Sequence[Address]]
"""Returns every address of a (name, port) in bounded time; raises TimeoutError or another OSError."""

LOOKUP_S = 2.0
"""Longest time of a look-up, including all search domains and servers."""
_SERVER_S = 0.8
"""Longest wait for one server before the next one is queried."""
_MAX_ADDRESSES = 64
_MAX_CACHED_NAMES = 4096
_MAX_TTL_S = 300.0
_NEGATIVE_TTL_S = 5.0


class UnknownNameError(OSError):
    """A name that does not exist, or has no address."""


@dataclass(frozen=True, slots=True)
class _Addresses:
    """A name's addresses (none if it does not exist) and their TTL in seconds."""

    addresses: tuple[Address, ...]
    ttl_s: float


class Resolver:
    """Resolves host names. Thread-safe; a look-up runs in its caller's thread.

    Args:
        servers: name servers as (address, port), instead of those in `conf`.
        conf: the system's resolver configuration; read again when it changes.
        hosts: the system's hosts file; read again when it changes.
        within_s: longest time of a look-up, in seconds.
    """

    def __init__(
        self,
        servers: Sequence[tuple[str, int]] = (),
        *,
        conf: Path = Path("/etc/resolv.conf"),
        hosts: Path = Path("/etc/hosts"),
        within_s: float = LOOKUP_S,
    ) -> None:
        self._servers = servers
        self._within_s = within_s
        self._cache = _AddressCache()
        self._names = _WatchedFile(hosts, _read_hosts)
        self._resolver = _WatchedFile(conf, self._load_resolver)

    def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Resolve a name; addresses with a route come first.

        Raises:
            UnknownNameError: the name has no address.
            TimeoutError: no server answered in time.
            OSError: the servers failed, or their answer is unusable.
        """
        deadline = time.monotonic() + self._within_s
        addresses = self._resolve_locally(host) or self._cache.get(host)
        if addresses is None:
            answers = self._query_servers(host, deadline)
            self._cache.put(host, answers)
            addresses = answers.addresses
        if not addresses:
            raise UnknownNameError("no such name")
        return sorted(addresses, key=lambda address: not has_route(address, port))

    def _resolve_locally(self, host: str) -> tuple[Address, ...] | None:
        names = self._names.read()
        if host in names:
            return names[host]
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761: never sent to a server
            return ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")
        return None

    def _query_servers(self, host: str, deadline: float) -> _Addresses:
        resolver = self._resolver.read()
        failed: OSError | None = None
        ttl_s = _NEGATIVE_TTL_S
        for name in _candidate_names(host, resolver):
            try:
                answers = _query_addresses(resolver, name, deadline)
            except TimeoutError:
                raise
            except OSError as error:  # another search domain's server may work
                failed = error
                continue
            if answers.addresses:
                return answers
            ttl_s = min(ttl_s, answers.ttl_s)
        if failed is not None:
            raise failed
        return _Addresses((), ttl_s)

    def _load_resolver(self, path: Path) -> dns.resolver.Resolver:
        try:
            resolver = dns.resolver.Resolver(str(path))
        except (dns.resolver.NoResolverConfiguration, OSError):
            resolver = dns.resolver.Resolver(configure=False)
            resolver.nameservers = ["127.0.0.1"]  # as glibc does
        resolver.timeout = min(resolver.timeout, _SERVER_S)
        if self._servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
        return resolver


def parse_name_servers(servers: Sequence[str]) -> list[tuple[str, int]]:
    """Parse name servers: `address`, `address:port` or `[address]:port`.

    Raises:
        ValueError: one of them is invalid.
    """
    parsed = []
    for server in servers:
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:]+)\]|([0-9.]+)):([0-9]{1,5})", server)
        address, port = (match[1] or match[2], int(match[3])) if match else (server, 53)
        try:
            parsed.append((str(ipaddress.ip_address(address)), port))
        except ValueError:
            raise ValueError(
                f"{server!r} is not a name server; write 10.0.0.10, 10.0.0.10:5353 or [fd00::10]:5353"
            ) from None
    return parsed


def _candidate_names(host: str, resolver: dns.resolver.Resolver) -> Iterator[dns.name.Name]:
    """Yield the full names that a short one may mean, in the order of resolv.conf(5)."""
    name = dns.name.from_text(host, None)
    domains = resolver.search or ([resolver.domain] if resolver.domain != dns.name.root else [])
    few_dots = len(name) - 1 < (1 if resolver.ndots is None else resolver.ndots)
    if not few_dots:
        yield name.concatenate(dns.name.root)
    for domain in domains:
        try:
            yield name.concatenate(domain)
        except dns.name.NameTooLong:
            continue
    if few_dots:
        yield name.concatenate(dns.name.root)


def _query_addresses(resolver: dns.resolver.Resolver, name: dns.name.Name, deadline: float) -> _Addresses:
    """Return the addresses of a full name, of both families; none where it does not exist.

    Raises:
        TimeoutError: no server answered in time.
        OSError: the servers failed, or there are too many addresses.
    """
    four = _query_records(resolver, name, dns.rdatatype.A, deadline)
    if four is None:
        return _Addresses((), _NEGATIVE_TTL_S)
    try:
        six = _query_records(resolver, name, dns.rdatatype.AAAA, deadline)
    except OSError:
        if not four.addresses:
            raise
        six = None  # some servers do not answer AAAA queries; unknown addresses are never called
    both = [answers for answers in (six, four) if answers is not None]
    addresses = tuple(dict.fromkeys(address for answers in both for address in answers.addresses))
    if len(addresses) > _MAX_ADDRESSES:
        raise OSError("too many addresses")
    return _Addresses(addresses, min(answers.ttl_s for answers in both))


def _query_records(
    resolver: dns.resolver.Resolver, name: dns.name.Name, kind: dns.rdatatype.RdataType, deadline: float
) -> _Addresses | None:
    """Return a name's records of one kind; None where the name does not exist."""
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    try:
        answer = resolver.resolve(name, kind, raise_on_no_answer=False, lifetime=remaining_s, search=False)
    except dns.resolver.NXDOMAIN:
        return None
    except dns.exception.Timeout:
        raise TimeoutError from None
    except dns.exception.DNSException as error:
        raise OSError(type(error).__name__) from None
    addresses = tuple(ipaddress.ip_address(record.address) for record in answer.rrset or ())
    return _Addresses(addresses, min(float(answer.chaining_result.minimum_ttl), _MAX_TTL_S))


class _WatchedFile(Generic[T]):
    """A parsed file, read again when it changes."""

    def __init__(self, path: Path, parse: Callable[[Path], T]) -> None:
        self._path = path
        self._parse = parse
        self._parsed: tuple[object, T] | None = None

    def read(self) -> T:
        """Return the file's current content, parsed."""
        try:
            stat = self._path.stat()
            state: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            state = None
        if self._parsed is None or self._parsed[0] != state:
            self._parsed = (state, self._parse(self._path))
        return self._parsed[1]


class _AddressCache:
    """Caches the addresses of the names resolved last, each for its TTL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: OrderedDict[str, tuple[float, tuple[Address, ...]]] = OrderedDict()

    def get(self, host: str) -> tuple[Address, ...] | None:
        """Return the cached addresses, or None."""
        with self._lock:
            until, addresses = self._names.get(host, (0.0, ()))
            if until <= time.monotonic():
                self._names.pop(host, None)
                return None
            self._names.move_to_end(host)
            return addresses

    def put(self, host: str, answers: _Addresses) -> None:
        """Cache a name's addresses; evict the name that was used least recently."""
        with self._lock:
            self._names[host] = (time.monotonic() + answers.ttl_s, answers.addresses)
            self._names.move_to_end(host)
            if len(self._names) > _MAX_CACHED_NAMES:
                self._names.popitem(last=False)


def _read_hosts(path: Path) -> dict[str, tuple[Address, ...]]:
    """Return the names of a hosts file with their addresses; skip invalid lines, as glibc does."""
    names: dict[str, list[Address]] = {}
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        address, *aliases = line.partition("#")[0].split() or [""]
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            continue
        for alias in aliases:
            names.setdefault(alias.lower(), []).append(parsed)
    return {name: tuple(dict.fromkeys(addresses)) for name, addresses in names.items()}


def has_route(address: Address, port: int) -> bool:
    """Return whether this machine has a route to an address; nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), port))
    except OSError:
        return False
    return True


def is_own_address(address: Address) -> bool:
    """Return whether an address is this machine's: only such an address can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
