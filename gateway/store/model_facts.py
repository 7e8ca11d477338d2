"""Remembers what workers have announced of their models, so that not every submission asks the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from jobs.ledger import AsyncLedger, ModelFacts, read_models

MAX_AGE_S = 5.0
"""Age at which the facts are read again. Until then a new model's workers find the tasks that it cannot do."""


class ModelFactsCache:
    """The facts of models, read when they are needed and older than `MAX_AGE_S`.

    Args:
        store: the ledger.
        models: the models.
        clock: monotonic time (seconds).
    """

    def __init__(self, store: AsyncLedger, models: Sequence[str], clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._models = models
        self._clock = clock
        self._facts: Mapping[str, ModelFacts] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def read_facts(self) -> Mapping[str, ModelFacts]:
        """Return the facts by model; a model without any is missing.

        Raises:
            LedgerUnavailableError: they are too old, and Redis does not answer.
        """
        if self._is_old():
            async with self._reading:  # one request asks, the others wait for it
                if self._is_old():
                    views = await self._store.run(read_models(self._models))
                    self._facts = {view.name: view.facts for view in views if view.facts is not None}
                    self._read_at = self._clock()
        return self._facts

    def _is_old(self) -> bool:
        return self._clock() - self._read_at >= MAX_AGE_S
