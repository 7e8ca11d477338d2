"""Looks whether the job store can be written, once a second however often it is asked.

The probe is open to everybody, and each look is a write that the server keeps in its append-only file.
"""

from __future__ import annotations

import asyncio
import time

from jobs import ledger
from jobs.ledger import AsyncLedger, LedgerUnavailableError

FRESH_S = 1.0


class Readiness:
    """Shares one look among all that ask within `FRESH_S`.

    Args:
        store: what is looked at.
    """

    def __init__(self, store: AsyncLedger) -> None:
        self._store = store
        self._looking: asyncio.Task[str | None] | None = None
        self._looked_at = 0.0

    async def check(self) -> None:
        """Return if the store could be written at the latest look.

        Raises:
            LedgerUnavailableError: it could not.
        """
        if self._looking is None or (self._looking.done() and time.monotonic() - self._looked_at > FRESH_S):
            self._looking = asyncio.create_task(self._look(), name="readiness")
        reason = await asyncio.shield(self._looking)
        if reason is not None:
            raise LedgerUnavailableError(reason)

    async def _look(self) -> str | None:
        try:
            await self._store.run(ledger.ping_write())
        except LedgerUnavailableError as error:
            return str(error)
        finally:
            self._looked_at = time.monotonic()
        return None
