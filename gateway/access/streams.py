"""Limits the open responses of one key and of one tenant: event streams, streams of results, waits.

Counted in each process: the limit protects the process's memory and event loop.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.access.caller import Caller
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


class ReleasingResponse(StreamingResponse):
    """A stream that releases its resources when it ends, even if it never began.

    Args:
        content: yields the body.
        resources: closed at the end.
        media_type: of the content.
        headers: additional headers.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes],
        resources: ExitStack,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        with self._resources:
            await super().__call__(scope, receive, send)
