"""How every process reaches Redis: one place for timeouts, retries, names of connections, TLS and Sentinel."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

from jobs.redis.sentinels import Sentinels

RETRIES = 1
"""redis-py repeats ten times by default; transitions are safe to repeat, but a caller's deadline is ours."""
_SENTINEL_SHARE = 4
"""A Sentinel that does not answer has cost so small a part of a call's time when the next one is asked."""
_TLS = ("rediss", "rediss+sentinel")
_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def connect(url: str, timeout_s: float, name: str) -> redis.Redis:
    """A client for threads that answers bytes, within about twice `timeout_s`."""
    options: dict[str, Any] = _options(url, timeout_s, name) | {"retry": Retry(ConstantBackoff(0.05), RETRIES)}
    if (sentinels := Sentinels.parse(url)) is None:
        return redis.Redis.from_url(url, **options)
    own = sentinel_options(url, timeout_s) | {"retry": Retry(NoBackoff(), 0)}
    asked: Any = _Asked  # untyped in redis-py
    found: redis.Redis = asked(sentinels.addresses, sentinel_kwargs=own).master_for(
        sentinels.master, **sentinels.server, **_tls(url), **options
    )
    return found


def connect_async(url: str, timeout_s: float, name: str, *, watched: bool = False) -> redis.asyncio.Redis:
    """A client for the event loop that answers bytes, within about twice `timeout_s`.

    `watched`: whoever uses it ends each call in time, and only connecting has a limit here. To be able to end a
    write, redis-py makes a task of it on Python 3.11, a quarter of a round trip's CPU.
    """
    options: dict[str, Any] = _options(url, timeout_s, name) | {"retry": AsyncRetry(ConstantBackoff(0.05), RETRIES)}
    if watched:
        options["socket_timeout"] = None
    if (sentinels := Sentinels.parse(url)) is None:
        return redis.asyncio.Redis.from_url(url, **options)
    own = sentinel_options(url, timeout_s) | {"retry": AsyncRetry(NoBackoff(), 0)}
    asked: Any = _AskedAsync  # untyped in redis-py
    found: redis.asyncio.Redis = asked(sentinels.addresses, sentinel_kwargs=own).master_for(
        sentinels.master, **sentinels.server, **_tls(url), **options
    )
    return found


class _Asked(redis.sentinel.Sentinel):
    """Sentinels that are hung up on after each question, for it comes with a new connection to the master only."""

    def discover_master(self, service_name: str) -> Any:
        """Where the master is."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]  # redis-py's
        finally:
            for sentinel in self.sentinels:
                sentinel.connection_pool.disconnect(inuse_connections=False)


class _AskedAsync(redis.asyncio.sentinel.Sentinel):
    """As `_Asked`; nobody else would close what the event loop leaves open."""

    async def discover_master(self, service_name: str) -> Any:
        """Where the master is."""
        try:
            return await super().discover_master(service_name)
        finally:
            for sentinel in self.sentinels:
                await sentinel.connection_pool.disconnect(inuse_connections=False)


def add_tls_options(
    url: str, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> str:
    """A URL over TLS with how the server is checked and what it is shown; any other as it is.

    What the URL says itself stays. redis-py, kombu and Flower all read it; kombu alone would check nothing of a
    server whose URL does not ask for it.

    Raises:
        ValueError: a Sentinel URL that cannot be read.
    """
    Sentinels.parse(url)
    parts = urlsplit(url)
    if parts.scheme not in _TLS:
        return url
    files = {"ssl_ca_certs": ca, "ssl_certfile": certificate, "ssl_keyfile": key}
    wanted = {"ssl_cert_reqs": "required"} | {name: str(path) for name, path in files.items() if path is not None}
    return urlunsplit(parts._replace(query=urlencode(wanted | dict(parse_qsl(parts.query)))))


def tls_options(url: str) -> dict[str, Any]:
    """A secured URL's TLS options as Celery's `broker_use_ssl` wants them; empty where it has none."""
    parts = urlsplit(add_tls_options(url))
    if parts.scheme not in _TLS:
        return {}
    found: dict[str, Any] = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    found["ssl_cert_reqs"] = _VERIFY[found["ssl_cert_reqs"].lower().removeprefix("cert_")]
    if "ssl_check_hostname" in found:
        found["ssl_check_hostname"] = found["ssl_check_hostname"].lower() not in ("false", "0", "no")
    return found


def sentinel_options(url: str, timeout_s: float) -> dict[str, Any]:
    """How to speak to the Sentinels of a URL, as redis-py's arguments; empty where it has none."""
    if (sentinels := Sentinels.parse(url)) is None:
        return {}
    patience_s = timeout_s / _SENTINEL_SHARE
    return {**sentinels.own, **_tls(url), "socket_timeout": patience_s, "socket_connect_timeout": patience_s}


def _tls(url: str) -> dict[str, Any]:
    options = tls_options(url)
    return {"ssl": True, **options} if options else {}


def _options(url: str, timeout_s: float, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_s, "health_check_interval": 15, "client_name": name}
    if not url.startswith("unix:"):  # a unix socket has neither
        options |= {"socket_connect_timeout": timeout_s, "socket_keepalive": True}
    return options
