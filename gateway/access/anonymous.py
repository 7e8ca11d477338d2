"""Limits the requests of one address that carry no key: pages, documentation, and API calls.

Counted in each process and nowhere else: such a request must not cost a round trip to Redis.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.access.rate_limits import client_network
from gateway.errors import GatewayError
from jobs.observability.metrics import GatewayMetrics

_MAX_ADDRESSES = 10_000


class AnonymousRate:
    """Token buckets by address.

    Args:
        per_minute: requests per minute of one address, and the largest burst; 0 is no limit.
        metrics: counts the refusals.
        clock: monotonic seconds.
    """

    def __init__(
        self, per_minute: int, metrics: GatewayMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._metrics = metrics
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count_request(self, address: str) -> None:
        """Count one request.

        Raises:
            GatewayError: rate_limited.
        """
        if not self._per_minute:
            return
        network, now, per_s = client_network(address), self._clock(), self._per_minute / 60
        tokens, since = self._buckets.pop(network, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - since) * per_s)
        is_allowed = tokens >= 1
        self._buckets[network] = (tokens - 1 if is_allowed else tokens, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        if not is_allowed:
            self._metrics.limited.labels("anonymous", "address").inc()
            raise GatewayError(
                "rate_limited",
                "too many requests without a key from this address",
                retry_after_s=(1 - tokens) / per_s,
            )
