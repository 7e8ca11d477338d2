"""Parses URLs of Redis behind Sentinel.

    redis+sentinel://[user:password@]host:26379,host:26379/master/1?sentinel_password=…

`rediss+sentinel` is the same over TLS, to Sentinels and Redis. User and password are those of Redis; Sentinel's are
in the query. The path is the master's name in Sentinel, then the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SCHEMES = ("redis+sentinel", "rediss+sentinel")
PORT = 26379
_FORM = "redis+sentinel://[user:password@]host[:port],host[:port]/master[/database]"
_SENTINEL_PARAMETERS = {f"sentinel_{name}": name for name in ("username", "password")}


@dataclass(frozen=True, slots=True)
class Sentinels:
    """A parsed Sentinel URL.

    Attributes:
        addresses: host and port of each Sentinel.
        master: the master's name in Sentinel.
        redis_options: user, password and database of Redis, as redis-py's arguments.
        sentinel_options: user and password of the Sentinels, as redis-py's arguments.
    """

    addresses: tuple[tuple[str, int], ...]
    master: str
    redis_options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """Parse a Sentinel URL; return None for a direct URL.

        Raises:
            ValueError: a Sentinel URL that cannot be parsed; the message omits it because of its passwords.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            return None
        login, _, hosts = parts.netloc.rpartition("@")
        master, _, database = unquote(parts.path).strip("/").partition("/")
        if not master or not hosts or not (database or "0").isdecimal():
            raise ValueError(f"a Sentinel URL has the form {_FORM}")
        query = dict(parse_qsl(parts.query))
        unknown = sorted(key for key in query if key not in _SENTINEL_PARAMETERS and not key.startswith("ssl_"))
        if unknown:
            raise ValueError(f"a Sentinel URL has no parameter {unknown[0]!r}")
        user, _, password = login.partition(":")
        redis_options = {
            "username": unquote(user) or None,
            "password": unquote(password) or None,
            "db": int(database or 0),
        }
        sentinel_options = {name: query[key] for key, name in _SENTINEL_PARAMETERS.items() if key in query}
        return cls(tuple(map(_parse_address, hosts.split(","))), master, redis_options, sentinel_options)

    def celery_url(self) -> str:
        """Return kombu's form: one URL per Sentinel; the master's name is a transport option there."""
        user, password = self.redis_options["username"] or "", self.redis_options["password"] or ""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
        database = self.redis_options["db"]
        addresses = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses)
        return ";".join(f"sentinel://{login}{address}/{database}" for address in addresses)


def _parse_address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError("a Sentinel's port is not a number up to 65535") from None
    if not parts.hostname:
        raise ValueError(f"a Sentinel URL has the form {_FORM}")
    return parts.hostname, port
