"""Renews a worker's leases, all in one call, and keeps the worker on its model's list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from jobs import ledger
from jobs.ledger import Ledger, Message
from jobs.process.periodic import PeriodicThread

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 4
MAX_INTERVAL_S = 5.0
"""Longest interval between renewals, through which a worker also learns of cancelled jobs."""
RETRY_S = 1.0


@dataclass(eq=False, slots=True)
class Lease:
    """A claim on a shard. `end_reason` is why its holder should stop (stop, lost, drain), or empty."""

    message: Message
    nonce: str
    end_reason: str = field(default="")


class LeaseKeeper(PeriodicThread):
    """Renews leases in the background; those held when it is stopped will expire.

    Args:
        store: the ledger.
        report_alive: called before each renewal: keeps this worker on its model's list.
        on_end: called once when a lease ends while it is held.
        lease_s: duration of a lease; it is renewed every quarter of that, and at least every `MAX_INTERVAL_S`.
    """

    def __init__(
        self,
        store: Ledger,
        report_alive: Callable[[], None],
        on_end: Callable[[Lease], None],
        lease_s: float = ledger.LEASE_MS / 1000,
    ) -> None:
        self._interval_s = min(MAX_INTERVAL_S, lease_s / RENEWALS_PER_LEASE)
        # After an outage be the first when Redis is back: every lease depends on it.
        super().__init__("leases", self._run_round, retry_s=min(self._interval_s, RETRY_S))
        self._store = store
        self._report_alive = report_alive
        self._on_end = on_end
        self._lease_ms = int(lease_s * 1000)
        self._leases: set[Lease] = set()
        self._ending = ""
        self._lock = Lock()

    @contextmanager
    def hold(self, message: Message, nonce: str) -> Iterator[Lease]:
        """Renew the claim's lease during the block; after `end_all` it has ended from the start."""
        with self._lock:
            lease = Lease(message, nonce, self._ending)
            self._leases.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._leases.discard(lease)

    def count_held(self, queue: str = "") -> int:
        """Return the number of leases held now, of one queue or of all."""
        with self._lock:
            return sum(queue in ("", lease.message.queue) for lease in self._leases)

    def end_all(self) -> None:
        """Ask every holder to give its shard back, because the process must end."""
        with self._lock:
            self._ending = "drain"
            leases = [lease for lease in self._leases if not lease.end_reason]
        for lease in leases:
            lease.end_reason = "drain"
            self._on_end(lease)

    def _run_round(self) -> float:
        self._report_alive()
        self.renew_leases()
        return self._interval_s

    def renew_leases(self) -> None:
        """Renew all leases once.

        Raises:
            LedgerUnavailableError: the state of the leases is unknown; the next renewal tries again.
        """
        with self._lock:
            leases = [lease for lease in self._leases if not lease.end_reason]
        if not leases:
            return
        claims = [(lease.message.job, lease.message.shard, lease.nonce) for lease in leases]
        answers = self._store.run(ledger.renew_leases(claims, self._lease_ms))
        for lease, answer in zip(leases, answers, strict=True):
            if answer is not ledger.LeaseAnswer.OK:
                lease.end_reason = answer
                log.info("lease.ended", extra={"job_id": lease.message.job, "answer": answer})
                self._on_end(lease)
