"""How every process reaches Redis: one place for timeouts, retries and names of connections."""

from __future__ import annotations

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

RETRIES = 1
"""redis-py repeats ten times by default; transitions are safe to repeat, but a caller's deadline is ours."""


def connect(url: str, timeout_s: float, name: str) -> redis.Redis:
    """A client for threads that answers bytes, within about twice `timeout_s`."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=15,
        client_name=name,
        retry=Retry(ConstantBackoff(0.05), RETRIES),
    )


def connect_async(url: str, timeout_s: float, name: str) -> redis.asyncio.Redis:
    """A client for the event loop that answers bytes, within about twice `timeout_s`."""
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=15,
        client_name=name,
        retry=AsyncRetry(ConstantBackoff(0.05), RETRIES),
    )
