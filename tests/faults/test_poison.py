"""Documents that kill, hang or fill their worker, among good neighbours: they alone fail."""

from __future__ import annotations

import time
from threading import Event, Thread

import pytest

from tests.faults.conftest import LONG, Strike
from tests.support.engine import FaultWord
from tests.support.processes.harness import wait_for
from tests.support.processes.worker import DIES_IN_CUT, DIES_IN_DECODE
from tests.support.record import some_texts


class Supervisor:
    """Starts a worker for each that ended, as Kubernetes or supervisord would."""

    def __init__(self, strike: Strike, **settings: str) -> None:
        self._strike = strike
        self._settings = settings
        self._stopping = Event()
        self._thread = Thread(target=self._loop)
        self.codes: list[int] = []

    def __enter__(self) -> Supervisor:
        self._strike.harness.end("worker")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _loop(self) -> None:
        worker = self._strike.harness.worker(**self._settings)
        while not self._stopping.wait(0.05):
            if not worker.alive():
                self.codes.append(worker.process.returncode)
                worker = self._strike.harness.worker(**self._settings)


WAYS = {
    "os._exit": FaultWord.exit,
    "segfault in the model": FaultWord.segfault,
    "endless loop": FaultWord.hang,
    "device lost": FaultWord.broken,
    "segfault in the tokenizer": DIES_IN_CUT,
    "segfault in decoding": DIES_IN_DECODE,
}


@pytest.mark.parametrize(
    "way", WAYS if LONG else ["segfault in the model", "endless loop", "segfault in the tokenizer"]
)
def test_a_document_that_kills(strike: Strike, way: str) -> None:
    """Poison among good neighbours."""
    strike.fault = f"Poison: {way}"
    with Supervisor(strike, GLEANER_HANG_TIMEOUT_S="1") as supervisor:
        slowest = 0.0
        for _ in strike.often(1, 3):
            texts = some_texts(strike.rng, 12)
            texts[7] += f" {WAYS[way]}"
            strike.record.submit(texts, {7: "worker_lost"})
            strike.record.submit(some_texts(strike.rng, 20))
            strike.record.submit(some_texts(strike.rng, 3), priority="interactive")
            slowest = max(slowest, settle(strike))
        strike.check().recovery_s = slowest
    # Once in a shared batch, three times alone; a busy machine may lose a lease, and with it a crash's evidence.
    assert 4 * strike.times <= len(supervisor.codes) <= 6 * strike.times


def test_a_document_too_large_for_the_device(strike: Strike) -> None:
    """Out of memory: the document fails alone, and no process dies."""
    before = [worker.pid for worker in strike.harness.of("worker")]
    for _ in strike.often(2, 20):
        texts = some_texts(strike.rng, 40)
        texts[11] += f" {FaultWord.out_of_memory}"
        texts[30] += f" {FaultWord.error}"
        strike.record.submit(texts, {11: "out_of_memory", 30: "inference_failed"})
    strike.check()
    assert [worker.pid for worker in strike.harness.of("worker")] == before


def settle(strike: Strike, within_s: float = 60.0) -> float:
    """Await that nothing is open; the seconds it took."""
    began = time.monotonic()
    wait_for(lambda: not strike.record.open_shards(), within_s, "the poison is found")
    return time.monotonic() - began
