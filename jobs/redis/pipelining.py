"""Groups the requests that many tasks make at the same moment into few round trips.

Requests of one turn of the event loop share a round trip: a single request never waits, and under load the cost of
a round trip, most of a client library's CPU, is shared. The group size is limited: with one round trip for all,
client and server would work in turn, each idle while the other works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

MAX_GROUP = 8
"""Submissions per second by group size (64 clients, 2 cores): unlimited 530, 16 596, 8 604."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class RequestGrouper(Generic[Request, Answer]):
    """Sends requests in groups.

    Args:
        send: sends a group; returns an answer or an error for each, in order. What it raises goes to all.
        max_group: maximum requests per round trip.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | Exception]]],
        max_group: int = MAX_GROUP,
    ) -> None:
        self._send = send
        self._max_group = max_group
        self._group: list[tuple[Request, asyncio.Future[Answer]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, request: Request) -> Answer:
        """Return the answer to a request, or raise the error that it got."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if not self._group:
            loop.call_soon(self._start_groups)
        self._group.append((request, future))
        return await future

    def _start_groups(self) -> None:
        group, self._group = self._group, []
        for first in range(0, len(group), self._max_group):
            task = asyncio.create_task(self._run_group(group[first : first + self._max_group]))
            self._running.add(task)  # the event loop holds only weak references
            task.add_done_callback(self._running.discard)

    async def _run_group(self, group: Sequence[tuple[Request, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._send([request for request, _ in group])
        except Exception as error:  # noqa: BLE001  # each caller of the group handles it
            answers = [error] * len(group)
        except asyncio.CancelledError:
            for _, future in group:  # or they would wait forever
                future.cancel()
            raise
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():  # its task has been cancelled
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
