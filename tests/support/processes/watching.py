"""Watches a process while something is done to it: its memory, and how long its event loop keeps others waiting."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import httpx
import psutil

from tests.support.processes.harness import Child

MIB = 1024 * 1024


class GatewayWatch:
    """Looks at a gateway until the block ends.

    Attributes:
        peak_mib: most resident memory seen (MiB).
        slowest_s: longest answer of /livez (seconds).
    """

    def __init__(self, gateway: Child) -> None:
        self.peak_mib = self.slowest_s = 0.0
        self._process = psutil.Process(gateway.pid)
        self._url = f"{gateway.url}/livez"
        self._end = threading.Event()
        self._threads = [threading.Thread(target=sample) for sample in (self._weigh, self._ask)]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _weigh(self) -> None:
        while not self._end.wait(0.005):
            self.peak_mib = max(self.peak_mib, self._process.memory_info().rss / MIB)

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self._end.wait(0.02):
                began = time.monotonic()
                client.get(self._url)
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
