"""Bounds how many answers of one key and of one tenant hold a connection open: event streams, results, waits.

Counted in each process: what is bounded is the process's own memory and event loop.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.access.rate_limits import Caller
from gateway.http.problems import Problem
from gateway.settings import GatewaySettings
from jobs.observability.metrics import GatewayMetrics

_RETRY_AFTER_S = 5


class Streams:
    """Counts the open ones.

    Args:
        settings: how many there may be.
        metrics: where refusals are counted.
    """

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._most = {"key": settings.key_streams, "tenant": settings.tenant_streams}
        self._metrics = metrics
        self._open: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def hold(self, caller: Caller) -> Iterator[None]:
        """Count one more until the block ends.

        Raises:
            Problem: rate_limited.
        """
        owners = (("key", caller.key_id), ("tenant", caller.tenant))
        for scope, owner in owners:
            if 0 < self._most[scope] <= self._open[scope, owner]:
                self._metrics.limited.labels("streams", scope).inc()
                raise Problem(
                    "rate_limited",
                    f"your {scope} has {self._most[scope]} streams and waits open here already; end one, or wait "
                    "for one to end",
                    headers={"Retry-After": str(_RETRY_AFTER_S)},
                )
        self._open.update(owners)
        try:
            yield
        finally:
            for owner_of in owners:
                self._open[owner_of] -= 1
                if not self._open[owner_of]:
                    del self._open[owner_of]


class HeldResponse(StreamingResponse):
    """A stream that gives back what it holds when it ends, also where it never began.

    Args:
        content: what is sent.
        held: closed at the end.
        media_type: of the content.
        headers: further headers.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes],
        held: ExitStack,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        with self._held:
            await super().__call__(scope, receive, send)
