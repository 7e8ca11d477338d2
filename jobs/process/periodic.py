"""Runs a step again and again, in a thread or on the event loop; an error ends a step, never the repetition."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import Event, Thread
from time import monotonic

from redis.exceptions import RedisError

from jobs.ledger import LedgerUnavailableError
from jobs.observability.logs import log_failure
from jobs.redis.clients import cancel_task

log = logging.getLogger(__name__)


class PeriodicThread:
    """Runs a step in a daemon thread until stopped.

    Args:
        name: name of the thread; logs `<name>.interrupted` if Redis does not answer, `<name>.failed` after a bug.
        step: returns the seconds until the next step.
        retry_s: seconds until the next step after one that failed.
        min_pause_s: shortest time between two steps; calls of `wake` in the meantime share a step.
    """

    def __init__(
        self, name: str, step: Callable[[], float], retry_s: float = 1.0, min_pause_s: float = 0.0
    ) -> None:
        self._name = name
        self._step = step
        self._retry_s = retry_s
        self._min_pause_s = min_pause_s
        self._failure: str | None = "has not run yet"
        self._step_began_at = monotonic()
        self._wakeup, self._stopping = Event(), Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, whose first step begins at once."""
        self._thread.start()

    def wake(self) -> None:
        """Start the next step soon."""
        self._wakeup.set()

    def request_stop(self) -> None:
        """Run no further step; may be called in a signal handler."""
        self._stopping.set()
        self._wakeup.set()

    def stop(self) -> None:
        """Finish the current step and end the thread."""
        self.request_stop()
        self._thread.join()

    def failure_reason(self) -> str | None:
        """Return why the latest step failed, or None."""
        return self._failure

    def stalled_s(self) -> float:
        """Return the seconds since the latest step began; 0 once asked to stop."""
        return 0.0 if self._stopping.is_set() else monotonic() - self._step_began_at

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._step_began_at = monotonic()
            try:
                pause_s, self._failure = self._step(), None
            except Exception as error:  # noqa: BLE001  # work depends on this thread: nothing may end it
                pause_s, self._failure = self._retry_s, _log_error(self._name, error)
            self._wakeup.wait(pause_s)
            self._stopping.wait(self._min_pause_s)
            self._wakeup.clear()


class PeriodicTask:
    """Runs a step on the event loop until stopped; arguments as for `PeriodicThread`.

    Args:
        name: name of the task, and first part of its log events.
        step: returns the seconds until the next step.
        retry_s: seconds until the next step after one that failed.
        first_after_s: seconds until the first step.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[float]], retry_s: float = 1.0, first_after_s: float = 0.0
    ) -> None:
        self._name = name
        self._step = step
        self._retry_s = retry_s
        self._first_after_s = first_after_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Cancel the task, its current step included."""
        await cancel_task(self._task)

    async def _run(self) -> None:
        pause_s = self._first_after_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                pause_s = await self._step()
            except Exception as error:  # noqa: BLE001  # a dead task would go unnoticed
                pause_s = self._retry_s
                _log_error(self._name, error)


def _log_error(name: str, error: Exception) -> str:
    """Log why a step failed, and return it."""
    reason = str(error) if isinstance(error, LedgerUnavailableError) else type(error).__name__
    if isinstance(error, (LedgerUnavailableError, RedisError, OSError)):
        log.warning(f"{name}.interrupted", extra={"reason": reason})
    else:
        log_failure(log, f"{name}.failed", error)
    return reason
