"""How every process reaches Redis: one place for timeouts, retries and names of connections."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

RETRIES = 1
"""redis-py repeats ten times by default; transitions are safe to repeat, but a caller's deadline is ours."""


def connect(url: str, timeout_s: float, name: str) -> redis.Redis:
    """A client for threads that answers bytes, within about twice `timeout_s`."""
    retry = Retry(ConstantBackoff(0.05), RETRIES)
    return redis.Redis.from_url(url, retry=retry, **_options(url, timeout_s, name))


def connect_async(url: str, timeout_s: float, name: str) -> redis.asyncio.Redis:
    """A client for the event loop that answers bytes, within about twice `timeout_s`."""
    retry = AsyncRetry(ConstantBackoff(0.05), RETRIES)
    return redis.asyncio.Redis.from_url(url, retry=retry, **_options(url, timeout_s, name))


def _options(url: str, timeout_s: float, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_s, "health_check_interval": 15, "client_name": name}
    if not url.startswith("unix:"):  # a unix socket has neither
        options |= {"socket_connect_timeout": timeout_s, "socket_keepalive": True}
    return options
