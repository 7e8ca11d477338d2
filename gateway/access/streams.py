"""Limits the open responses of one key and of one tenant: event streams, streams of results, waits.

Counted in each process: the limit protects the process's memory and event loop.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from gateway.access import Caller
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from jobs.observability.metrics import GatewayMetrics

_RETRY_AFTER_S = 5


class Streams:
    """Counts open streams and waits.

    Args:
        settings: the limits.
        metrics: counts the refusals.
    """

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._limits = {"key": settings.key_streams, "tenant": settings.tenant_streams}
        self._metrics = metrics
        self._open: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def hold_slot(self, caller: Caller) -> Iterator[None]:
        """Count one more open stream until the block ends.

        Raises:
            GatewayError: rate_limited.
        """
        owners = (("key", caller.key_id), ("tenant", caller.tenant))
        for scope, owner in owners:
            if 0 < self._limits[scope] <= self._open[scope, owner]:
                self._metrics.limited.labels("streams", scope).inc()
                raise GatewayError(
                    "rate_limited",
                    f"your {scope} has {self._limits[scope]} streams and waits open already; close one, or wait "
                    "until one ends",
                    retry_after_s=_RETRY_AFTER_S,
                )
        self._open.update(owners)
        try:
            yield
        finally:
            for key in owners:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]
