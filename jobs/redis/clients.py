"""Clients of Redis for every process: timeouts, retries, connection names, TLS and Sentinel."""

from __future__ import annotations

import asyncio
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
"""redis-py retries ten times by default, which no deadline of ours allows; transitions are safe to repeat."""
_SENTINEL_SHARE = 4
"""Part of a call's timeout after which a silent Sentinel is given up and the next one is queried."""
_CANCEL_AGAIN_S = 0.2
_TLS = ("rediss", "rediss+sentinel")
_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def connect(url: str, timeout_s: float, name: str) -> redis.Redis:
    """Return a client for threads that returns bytes, within about twice `timeout_s`."""
    options = _client_options(url, timeout_s, name)
    client: redis.Redis = _connect(url, timeout_s, options, (redis.Redis, _Sentinel, Retry))
    return client


def connect_async(url: str, timeout_s: float, name: str, *, watched: bool = False) -> redis.asyncio.Redis:
    """Return a client for the event loop that returns bytes, within about twice `timeout_s`.

    `watched`: the caller limits the time of each call, and only connecting has a timeout here. To be able to cancel
    a write, redis-py makes a task of it on Python 3.11, a quarter of a round trip's CPU.
    """
    options = _client_options(url, timeout_s, name)
    if watched:
        options["socket_timeout"] = None
    kinds = (redis.asyncio.Redis, _AsyncSentinel, AsyncRetry)
    client: redis.asyncio.Redis = _connect(url, timeout_s, options, kinds)
    return client


def _connect(url: str, timeout_s: float, options: dict[str, Any], kinds: tuple[Any, Any, Any]) -> Any:
    """Return a client of redis-py, of these kinds (client, Sentinels, retry), for a direct or a Sentinel URL."""
    client, sentinel, retry = kinds
    options["retry"] = retry(ConstantBackoff(0.05), RETRIES)
    if (sentinels := Sentinels.parse(url)) is None:
        return client.from_url(url, **options)
    to_sentinels = {**sentinel_options(url, timeout_s), "retry": retry(NoBackoff(), 0)}
    return sentinel(sentinels.addresses, sentinel_kwargs=to_sentinels).master_for(
        sentinels.master, **sentinels.redis_options, **_client_tls_options(url), **options
    )


async def cancel_task(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task that calls Redis repeatedly until it has ended.

    Once is not enough: redis-py 8.1 may swallow a cancellation during a time-out or a connection attempt, and the
    task then continues.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)


class _Sentinel(redis.sentinel.Sentinel):
    """Sentinels that are disconnected after each query, since only new connections to the master need one."""

    def discover_master(self, service_name: str) -> Any:
        """Return the master's address."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]  # redis-py's
        finally:
            for sentinel in self.sentinels:
                sentinel.connection_pool.disconnect(inuse_connections=False)


class _AsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """Sentinels as `_Sentinel`; nothing else would close their connections before the event loop ends."""

    async def discover_master(self, service_name: str) -> Any:
        """Return the master's address."""
        try:
            return await super().discover_master(service_name)
        finally:
            for sentinel in self.sentinels:
                await sentinel.connection_pool.disconnect(inuse_connections=False)


def add_tls_options(
    url: str, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> str:
    """Add certificate verification and files to the query of a TLS URL; return any other URL unchanged.

    Parameters already in the URL win. redis-py, kombu and Flower all read them; kombu verifies nothing unless the
    URL asks for it.

    Raises:
        ValueError: a Sentinel URL that cannot be parsed.
    """
    Sentinels.parse(url)
    parts = urlsplit(url)
    if parts.scheme not in _TLS:
        return url
    files = {"ssl_ca_certs": ca, "ssl_certfile": certificate, "ssl_keyfile": key}
    defaults = {"ssl_cert_reqs": "required"} | {name: str(path) for name, path in files.items() if path is not None}
    return urlunsplit(parts._replace(query=urlencode(defaults | dict(parse_qsl(parts.query)))))


def tls_options(url: str) -> dict[str, Any]:
    """Return a URL's TLS options in the form of Celery's `broker_use_ssl`; empty if it has none."""
    parts = urlsplit(add_tls_options(url))
    if parts.scheme not in _TLS:
        return {}
    options: dict[str, Any] = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    options["ssl_cert_reqs"] = _VERIFY[options["ssl_cert_reqs"].lower().removeprefix("cert_")]
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in ("false", "0", "no")
    return options


def sentinel_options(url: str, timeout_s: float) -> dict[str, Any]:
    """Return redis-py's arguments for connections to the Sentinels of a URL; empty if it has none."""
    if (sentinels := Sentinels.parse(url)) is None:
        return {}
    share_s = timeout_s / _SENTINEL_SHARE
    timeouts = {"socket_timeout": share_s, "socket_connect_timeout": share_s}
    return {**sentinels.sentinel_options, **_client_tls_options(url), **timeouts}


def _client_tls_options(url: str) -> dict[str, Any]:
    options = tls_options(url)
    return {"ssl": True, **options} if options else {}


def _client_options(url: str, timeout_s: float, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_s, "health_check_interval": 15, "client_name": name}
    if not url.startswith("unix:"):  # a Unix socket supports neither
        options |= {"socket_connect_timeout": timeout_s, "socket_keepalive": True}
    return options
