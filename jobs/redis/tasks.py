"""Cancels tasks that call Redis."""

from __future__ import annotations

import asyncio

_REPEAT_S = 0.2


async def cancel_task(task: asyncio.Task[None] | None) -> None:
    """Cancel a task repeatedly until it has ended.

    Once is not enough: redis-py 8.1 may swallow a cancellation during a time-out or a connection attempt, and the
    task then continues.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_REPEAT_S)
