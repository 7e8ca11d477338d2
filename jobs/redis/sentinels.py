"""A store behind Sentinel: its URL -> whom to ask for the current master, and how to speak to either.

    redis+sentinel://[user:password@]host:26379,host:26379/master/1?sentinel_password=…

`rediss+sentinel` is the same over TLS, to Sentinels and servers. User and password are the servers'; Sentinel's own
are in the query. The path is the name that Sentinel knows the master by, then the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SCHEMES = ("redis+sentinel", "rediss+sentinel")
PORT = 26379
_FORM = "redis+sentinel://[user:password@]host[:port],host[:port]/master[/database]"
_OWN = {f"sentinel_{name}": name for name in ("username", "password")}


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where a store's Sentinels are.

    Attributes:
        addresses: of the Sentinels, host and port.
        master: the name they know it by.
        server: user, password and database at the servers, as redis-py's arguments.
        own: user and password at the Sentinels, as redis-py's arguments.
    """

    addresses: tuple[tuple[str, int], ...]
    master: str
    server: Mapping[str, Any]
    own: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """What a URL says; None for one of a server itself.

        Raises:
            ValueError: a Sentinel URL that cannot be read; the message does not have it, for its passwords.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            return None
        login, _, hosts = parts.netloc.rpartition("@")
        master, _, database = unquote(parts.path).strip("/").partition("/")
        if not master or not hosts or not (database or "0").isdecimal():
            raise ValueError(f"a Sentinel URL has the form {_FORM}")
        query = dict(parse_qsl(parts.query))
        if unknown := sorted(name for name in query if name not in _OWN and not name.startswith("ssl_")):
            raise ValueError(f"a Sentinel URL has no parameter {unknown[0]!r}")
        user, _, password = login.partition(":")
        server = {
            "username": unquote(user) or None,
            "password": unquote(password) or None,
            "db": int(database or 0),
        }
        own = {_OWN[name]: value for name, value in query.items() if name in _OWN}
        return cls(tuple(map(_address, hosts.split(","))), master, server, own)

    def celery_url(self) -> str:
        """As kombu has it: one URL a Sentinel; the master's name is a transport option there."""
        user, password = self.server["username"] or "", self.server["password"] or ""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
        urls = (f"sentinel://{login}{_bracketed(host)}:{port}/{self.server['db']}" for host, port in self.addresses)
        return ";".join(urls)


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError("a Sentinel's port is not a number up to 65535") from None
    if not parts.hostname:
        raise ValueError(f"a Sentinel URL has the form {_FORM}")
    return parts.hostname, port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
