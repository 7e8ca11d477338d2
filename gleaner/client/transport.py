"""Shared by `Client` and `AsyncClient`: `Call` -> httpx request, and the handle of a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sized
from typing import Any

import httpx

from gleaner.client.calls import Call
from gleaner.models import Counts, JobInfo

OnProgress = Callable[[JobInfo], None]


class Handle:
    """Base of `Job` and `AsyncJob`: the last response about the job, and its fields."""

    info: JobInfo

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.info.id

    @property
    def status(self) -> str:
        """Status of the job in the last response."""
        return self.info.status

    @property
    def done(self) -> bool:
        """True once the job is terminal."""
        return self.info.done

    @property
    def counts(self) -> Counts:
        """Number of documents by state in the last response."""
        return self.info.counts

    @property
    def progress(self) -> float:
        """Fraction of the documents that are finished, 0..1."""
        return self.info.progress

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"


def make_body(call: Call[Any]) -> bytes | Iterator[bytes] | None:
    """Return the body; a streamed one is made again for each try, because its iterator can be read only once."""
    return call.content() if callable(call.content) else call.content


def build_request(
    http: httpx.Client | httpx.AsyncClient,
    call: Call[Any],
    content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None,
    timeout_s: float,
) -> httpx.Request:
    """Return the call as an httpx request, with the gateway's waiting time added to the read timeout."""
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=call.headers,
        content=content,
        timeout=httpx.Timeout(timeout_s, read=timeout_s + call.patience_s),
    )


def common_headers(key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    common = {"Accept": "application/json", "User-Agent": "gleaner-python"}
    return common if key is None else {**common, "Authorization": f"Bearer {key}"}


def count_documents(documents: object) -> int | None:
    """Return the number of documents, or None if the source has no length."""
    return len(documents) if isinstance(documents, Sized) else None
