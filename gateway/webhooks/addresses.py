"""Decides which URLs and addresses webhooks may be sent to (SSRF protection). Pure: no look-ups, no I/O.

One strict pattern parses URLs, so that no other parser can read them differently. An address must be public: IPv6
outside the allocated global unicast space, or with an embedded IPv4 address, is refused. Every attempt is checked
on the address that it connects to; the check at registration only gives an early error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.webhooks.allowed import Allowed

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_URL = 2048
_MAX_HOST = 253
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    # RFC 3986's pchar; no fragment, and no character that some parser takes for a slash or the end of the host.
    r"(?P<target>(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?)"
)
_AUTHORITY = re.compile(r"[A-Za-z]+://[^/?#]*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS = {"http": 80, "https": 443}

_V4: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "cloud metadata"),  # Azure's, on a public address
    ("169.254.0.0/16", "link-local"),  # cloud metadata too
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_V6: tuple[tuple[str, str], ...] = (
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "embeds an IPv4 address"),
    ("::ffff:0:0/96", "embeds an IPv4 address"),
    ("::ffff:0:0:0/96", "embeds an IPv4 address"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "reserved"),
    ("3fff::/20", "documentation"),
)
_FORBIDDEN: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), reason) for network, reason in (*_V4, *_V6)
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


NOT_PUBLIC = "has a host that does not exist or leads to an address that is not public"
"""One message for both cases, so that it does not reveal which internal names exist."""


class ForbiddenTargetError(Exception):
    """A URL or an address that no webhook may be sent to.

    Args:
        code: url_forbidden or address_forbidden.
        reason: a message for the endpoint's owner; never contains an address that a name resolved to.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL.

    Attributes:
        host: a lower-case name, or an address in its shortest form, without brackets.
        literal: the address, if the URL has one instead of a name.
        target: path and query as sent.
    """

    scheme: str
    host: str
    port: int
    target: str
    literal: Address | None

    @property
    def lane(self) -> str:
        """The receiver as host:port, by which concurrent attempts are counted."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """The targets that this service may call.

    Attributes:
        allow: receivers that are allowed although they are not public.
        allow_http: plain http may be used.
    """

    allow: tuple[Allowed, ...] = ()
    allow_http: bool = False

    def parse_url(self, url: str, tenant: str) -> Target:
        """Parse a tenant's URL.

        Raises:
            ForbiddenTargetError: it is not a plain http(s) URL, or may not be called.
        """
        target = parse_target(url)
        if target.scheme == "http" and not self.allow_http:
            raise ForbiddenTargetError("url_forbidden", "must begin with https://")
        if target.literal is not None:
            self.check_addresses(target, [target.literal], tenant)
        return target

    def check_addresses(
        self,
        target: Target,
        addresses: Sequence[Address],
        tenant: str,
        is_own: Callable[[Address], bool] = lambda _: False,
    ) -> bool:
        """Refuse a target if one of its addresses is neither public nor allowed; return True if all are public.

        Args:
            target: the URL.
            addresses: the addresses of its host.
            tenant: the owner of the URL.
            is_own: returns whether an address is this machine's, which is not public.

        Raises:
            ForbiddenTargetError: address_forbidden; for a name the reason does not contain its addresses.
        """
        public = True
        for address in addresses:
            reason = find_forbidden_reason(address) or ("this service's own" if is_own(address) else None)
            if reason is None:
                continue
            path = target.target.partition("?")[0]
            if not any(entry.covers(tenant, target.host, target.port, path, address) for entry in self.allow):
                clause = f"leads to an address that is {reason}" if target.literal is not None else NOT_PUBLIC
                raise ForbiddenTargetError("address_forbidden", clause)
            public = False
        return public


def parse_target(url: str) -> Target:
    """Parse a URL strictly; nothing is decoded, completed or corrected.

    Raises:
        ForbiddenTargetError: it is not `http(s)://host[:port][/path][?query]` in plain ASCII.
    """
    if len(url) > _MAX_URL:
        raise ForbiddenTargetError("url_forbidden", f"must have at most {_MAX_URL} characters")
    authority = _AUTHORITY.match(url)
    lowered = url if authority is None else authority[0].lower() + url[authority.end() :]
    # ASCII first: some other letters become plain ones in lower case.
    match = _URL.fullmatch(lowered) if url.isascii() else None
    if match is None:
        raise ForbiddenTargetError("url_forbidden", f"must be a plain URL; {_explain_invalid_url(url)}")
    scheme, host, port = match["scheme"], match["host"], int(match["port"] or _PORTS[match["scheme"]])
    if not (port in _PORTS.values() or 1024 <= port <= 65535):
        raise ForbiddenTargetError("url_forbidden", "the port must be 80, 443 or from 1024 to 65535")
    literal = _parse_literal(host)
    name = str(literal) if literal is not None else _check_host_name(host)
    target = match["target"]
    return Target(scheme, name, port, target if target.startswith("/") else "/" + target, literal)


def _explain_invalid_url(url: str) -> str:
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return "user name and password are not allowed"
    if "#" in url:
        return "a fragment (`#`) is not allowed"
    if not url.isascii() or "\\" in url or not url.isprintable() or " " in url:
        return "percent-encode spaces, backslashes and letters beyond ASCII; write host names in punycode"
    return "such as `https://host/path`"


def _parse_literal(host: str) -> Address | None:
    """Parse an address in place of a name; return None for a name."""
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1])
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return IPv4Address(host)  # four decimal numbers without leading zeros, or nothing
    except ValueError:
        raise ForbiddenTargetError("url_forbidden", "has an address in an unusual notation") from None
    return None


def _check_host_name(host: str) -> str:
    if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, host.split("."))):
        raise ForbiddenTargetError("url_forbidden", "has an invalid host name")
    return host


def find_forbidden_reason(address: Address) -> str | None:
    """Return the reason why an address is not public, or None."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "bound to an interface"
        if address in _NAT64:  # networks without IPv4 reach public IPv4 this way
            return find_forbidden_reason(IPv4Address(int(address) & 0xFFFF_FFFF))
        if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
            return "embeds an IPv4 address"
    for network, reason in _FORBIDDEN:
        if address.version == network.version and address in network:
            return reason
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return "not allocated"
    return None if address.is_global and not address.is_multicast else "not public"
