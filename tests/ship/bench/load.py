"""Jobs that the real client submits while things happen to the cluster, and a look at every answer."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass, field
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from gleaner import Client
from gleaner.client import Job

DOCUMENTS = 64
PAUSE_S = 0.3


@dataclass
class Load:
    """Submits a job every `PAUSE_S` until the block ends, and asks the API without ever repeating a request.

    Attributes:
        jobs: accepted ones, each of `DOCUMENTS` documents.
        failures: answers other than 200, and broken connections, of the requests that were not repeated.
        errors: of the submitting thread.
    """

    url: str
    key: str
    jobs: list[Job] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect."""
        self._ending = Event()
        self._client = Client(self.url, self.key)
        self._threads = [Thread(target=run, daemon=True) for run in (self._submit, self._ask)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop submitting."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if error is None:
            assert not self.errors, self.errors

    def submit_job(self) -> Job:
        """Submit a job now."""
        number = len(self.jobs)
        texts = [f"Ada Lovelace met Grace Hopper, {number}.{n}." for n in range(DOCUMENTS)]
        job = self._client.submit(texts, ["person"])
        self.jobs.append(job)
        return job

    def check_all(self, attempts: set[int] | None = None) -> int:
        """Await every job; return how many documents were read.

        Args:
            attempts: the numbers of attempts that documents may have had; once by default.

        Raises:
            AssertionError: a document is missing, is there twice, failed, or ran again.
        """
        for job in self.jobs:
            results = list(job.results())
            assert sorted(result.index for result in results) == list(range(DOCUMENTS)), job.id
            assert {result.status for result in results} == {"succeeded"}, job.id
            assert {result.attempts for result in results} <= (attempts or {1}), job.id
        self._client.close()
        return len(self.jobs) * DOCUMENTS

    def _submit(self) -> None:
        try:
            while not self._ending.wait(PAUSE_S):
                self.submit_job()
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            self.errors.append(error)

    def _ask(self) -> None:
        address = urlsplit(self.url).netloc
        while not self._ending.wait(0.05):
            connection = http.client.HTTPConnection(address, timeout=10)
            try:
                connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {self.key}"})
                answer = connection.getresponse()
                if answer.status != 200:
                    self.failures.append(f"{time.monotonic():.1f}: {answer.status}")
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{time.monotonic():.1f}: {type(error).__name__}: {error}")
            finally:
                connection.close()
