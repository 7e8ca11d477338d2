"""Checks that Redis can be written, at most once a second.

The probe needs no key, and each check is a write that Redis keeps in its append-only file.
"""

from __future__ import annotations

import asyncio
import time

from jobs.ledger import AsyncLedger, LedgerUnavailableError, ping_write

FRESH_S = 1.0


class Readiness:
    """Shares one check among all probes within `FRESH_S`.

    Args:
        ledger: the ledger to write to.
    """

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._check_task: asyncio.Task[str | None] | None = None
        self._checked_at = 0.0

    async def check(self) -> None:
        """Raise unless the latest check could write.

        Raises:
            LedgerUnavailableError: Redis cannot be written.
        """
        if self._check_task is None or (self._check_task.done() and time.monotonic() - self._checked_at > FRESH_S):
            self._check_task = asyncio.create_task(self._write(), name="readiness")
        reason = await asyncio.shield(self._check_task)
        if reason is not None:
            raise LedgerUnavailableError(reason)

    async def _write(self) -> str | None:
        try:
            await self._ledger.run(ping_write())
        except LedgerUnavailableError as error:
            return str(error)
        finally:
            self._checked_at = time.monotonic()
        return None
