"""What `Client` and `AsyncClient` share beside the flows: a `Call` as an httpx request, and a job's handle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sized
from typing import Any

import httpx

from gleaner.client.calls import Call
from gleaner.client.flows import MapProgress
from gleaner.models import Counts, JobInfo

OnProgress = Callable[[JobInfo], None]
OnMapProgress = Callable[[MapProgress], None]


class Handle:
    """What `Job` and `AsyncJob` share: the last answer about the job, and its fields."""

    info: JobInfo

    @property
    def id(self) -> str:
        """The job's id."""
        return self.info.id

    @property
    def status(self) -> str:
        """The job's status when the gateway last answered."""
        return self.info.status

    @property
    def done(self) -> bool:
        """True once the job is terminal."""
        return self.info.done

    @property
    def counts(self) -> Counts:
        """Documents by state when the gateway last answered."""
        return self.info.counts

    @property
    def progress(self) -> float:
        """Finished documents as a fraction of all, 0..1."""
        return self.info.progress

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"


def body(call: Call[Any]) -> bytes | Iterator[bytes] | None:
    """The body, made again by every call: what was read while it was sent cannot be sent again."""
    return call.content() if callable(call.content) else call.content


def request(
    http: httpx.Client | httpx.AsyncClient,
    call: Call[Any],
    content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None,
    timeout_s: float,
) -> httpx.Request:
    """The call as a request of this connection, with as long to answer as the gateway was asked to wait."""
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=call.headers,
        content=content,
        timeout=httpx.Timeout(timeout_s, read=timeout_s + call.patience_s),
    )


def headers(key: str | None) -> dict[str, str]:
    """What every request carries."""
    common = {"Accept": "application/json", "User-Agent": "gleaner-python"}
    return common if key is None else {**common, "Authorization": f"Bearer {key}"}


def length(documents: object) -> int | None:
    """How many, where the source knows."""
    return len(documents) if isinstance(documents, Sized) else None
