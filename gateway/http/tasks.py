"""Ends background tasks for certain."""

from __future__ import annotations

import asyncio

_AGAIN_S = 0.2


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task until it is over.

    Once is not enough: a cancellation that meets a time-out or a connection attempt inside redis-py 8.1 may be
    swallowed there, and the task goes on as if nothing had been said.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
