"""Waits for conditions that set no event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LONGEST_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks and threads run until a condition holds.

    Raises:
        TimeoutError: it does not hold after `LONGEST_S`.
    """
    async with asyncio.timeout(LONGEST_S):
        while not condition():  # noqa: ASYNC110  # what is awaited sets no event
            await asyncio.sleep(0.0005)
