"""Bounds what one address may ask for without a key: pages, documents, and calls that carry no key.

Counted in each process and nowhere else: such a request must not cost the store anything.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.access.rate_limits import network
from gateway.http.problems import Problem
from jobs.observability.metrics import GatewayMetrics

_MOST_ADDRESSES = 10_000


class AnonymousRate:
    """Token buckets by address.

    Args:
        per_minute: requests a minute of one address, and how many may come at once; 0 is no limit.
        metrics: where refusals are counted.
        clock: monotonic seconds.
    """

    def __init__(
        self, per_minute: int, metrics: GatewayMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._metrics = metrics
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Count one request.

        Raises:
            Problem: rate_limited.
        """
        if not self._per_minute:
            return
        owner, now, per_s = network(address), self._clock(), self._per_minute / 60
        tokens, since = self._buckets.pop(owner, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - since) * per_s)
        passes = tokens >= 1
        self._buckets[owner] = (tokens - 1 if passes else tokens, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        if not passes:
            self._metrics.limited.labels("anonymous", "address").inc()
            raise Problem(
                "rate_limited",
                "too many requests without a key from this address",
                headers={"Retry-After": str(math.ceil((1 - tokens) / per_s))},
            )
