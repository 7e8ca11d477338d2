"""Keeps a worker's claims alive: renews every lease it holds in one call, and keeps it on its model's list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from jobs import ledger
from jobs.ledger import Ledger, LedgerUnavailableError, Message
from jobs.observability.logs import log_failure

log = logging.getLogger(__name__)

RENEWALS_A_LEASE = 4
CANCEL_S = 5.0
"""A round is the way in which a worker learns of a cancelled job: they come at least so often."""
RETRY_S = 1.0


@dataclass(eq=False, slots=True)
class Lease:
    """A claim on a shard. `ended` says why its holder should stop (stop, lost, drain), else it is empty."""

    message: Message
    nonce: str
    ended: str = field(default="")


class LeaseKeeper:
    """Renews what `hold` holds, from a thread of its own.

    Args:
        store: the ledger.
        alive: called on every round, before the renewals: says that this worker is there.
        on_end: called once when a lease ends under its holder.
        lease_s: how long a claim holds; a round every quarter of it, and every `CANCEL_S`.
    """

    def __init__(
        self,
        store: Ledger,
        alive: Callable[[], None],
        on_end: Callable[[Lease], None],
        lease_s: float = ledger.LEASE_MS / 1000,
    ) -> None:
        self._store = store
        self._alive = alive
        self._on_end = on_end
        self._lease_ms = int(lease_s * 1000)
        self._every_s = min(CANCEL_S, lease_s / RENEWALS_A_LEASE)
        self._held: set[Lease] = set()
        self._ending = ""
        self._lock = Lock()
        self._stopping = Event()
        self._thread = Thread(target=self._loop, name="leases", daemon=True)

    @contextmanager
    def hold(self, message: Message, nonce: str) -> Iterator[Lease]:
        """Keep the claim alive for the length of the block; after `end_all` it has ended from the start."""
        with self._lock:
            lease = Lease(message, nonce, self._ending)
            self._held.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._held.discard(lease)

    def held(self, queue: str = "") -> int:
        """Shards held now, of one queue or of all."""
        with self._lock:
            return sum(queue in ("", lease.message.queue) for lease in self._held)

    def end_all(self) -> None:
        """Ask every holder to give its shard back: the process must end."""
        with self._lock:
            self._ending = "drain"
            leases = [lease for lease in self._held if not lease.ended]
        for lease in leases:
            lease.ended = "drain"
            self._on_end(lease)

    def start(self) -> None:
        """Begin the rounds, the first at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the rounds; leases still held will run out."""
        self._stopping.set()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            pause_s = self._every_s
            try:
                self._alive()
                self.renew()
            except LedgerUnavailableError as error:
                log.warning("leases.renew_failed", extra={"reason": str(error)})
                pause_s = min(pause_s, RETRY_S)  # be the first when the store is back: every lease depends on it
            except Exception as error:  # noqa: BLE001  # without rounds every lease would lapse while its shard runs
                log_failure(log, "leases.round_failed", error)
            if self._stopping.wait(pause_s):
                return

    def renew(self) -> None:
        """One round.

        Raises:
            LedgerUnavailableError: nothing is known of the leases; the next round tries again.
        """
        with self._lock:
            leases = [lease for lease in self._held if not lease.ended]
        if not leases:
            return
        answers = self._store.run(
            ledger.renew_leases([(x.message.job, x.message.shard, x.nonce) for x in leases], self._lease_ms)
        )
        for lease, answer in zip(leases, answers, strict=True):
            if answer is not ledger.LeaseAnswer.OK:
                lease.ended = answer
                log.info("lease.ended", extra={"job_id": lease.message.job, "answer": answer})
                self._on_end(lease)
