"""The client's logic as generators without I/O: they yield commands that a driver executes.

`Client` and `AsyncClient` are two drivers of the same flows, so retrying, waiting, paging and scheduling
(`gleaner.client.scheduling`) are written once. A driver answers `Send` with the response (or throws in
`httpx.RequestError`), `Sleep` with nothing, `Pull` with the next document or `END`, and passes the items of `Emit`
to the caller.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import httpx

from gleaner.client import calls
from gleaner.client.arguments import hold_documents, hold_labels, hold_options
from gleaner.client.calls import Call, Document, Labels, ListPage, SubmitOptions
from gleaner.errors import (
    ApiError,
    Conflict,
    Gone,
    NotFound,
    RateLimited,
    ServerError,
    TransportError,
    Unavailable,
    WaitTimeout,
    from_response,
)
from gleaner.models import JobInfo, Result

T = TypeVar("T")
OnProgress = Callable[[JobInfo], None]

LONG_POLL_S: Final = 30
"""Seconds a status request waits at the gateway if progress is not reported."""

PROGRESS_POLL_S: Final = 1
"""The same if progress is reported: the gateway responds to a wait only when the job ends, so poll more often."""

EXTRACT_LIMIT: Final = 32
"""Documents that /v1/extract accepts in one call."""


@dataclass(frozen=True, slots=True)
class Send:
    """Asks the driver to send this request and to answer with the response."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Asks the driver to wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Asks the driver to pass these to the caller, in order: results, or items of a list."""

    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """Asks the driver to answer with the caller's next document, or `END`."""


END: Final = object()

Command = Send | Sleep | Emit | Pull
Flow = Generator[Command, Any, T]


class Run(Generic[T]):
    """A flow in progress.

    Attributes:
        command: the next command for the driver, None at the end.
        value: the flow's return value, once `command` is None.
    """

    command: Command | None
    value: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.answer()

    def answer(self, reply: Any = None) -> None:
        """Resume the flow with the command's outcome."""
        self._advance(self._flow.send, reply)

    def fail(self, error: httpx.RequestError) -> None:
        """Resume the flow with the error that the command raised."""
        self._advance(self._flow.throw, error)

    def _advance(self, step: Callable[[Any], Command], value: Any) -> None:
        # StopIteration must not reach a driver: a coroutine may not raise it.
        try:
            self.command = step(value)
        except StopIteration as finished:
            self.command, self.value = None, finished.value


@dataclass(frozen=True, slots=True)
class Retry:
    """Policy of retries.

    Only requests that are safe to repeat are retried: reads, cancel and DELETE are idempotent, submissions carry a
    key. Others (registering a webhook endpoint) are retried only if the gateway certainly did not process them.

    Attributes:
        retries: repetitions after the first try.
        base_s: first backoff; doubled each time, with jitter, up to `cap_s`.
        max_retry_after_s: a `Retry-After` above this is not waited for: the error is raised.
    """

    retries: int = 5
    base_s: float = 0.5
    cap_s: float = 20.0
    max_retry_after_s: float = 120.0

    def next_delay(
        self, attempt: int, error: ApiError | TransportError, *, repeatable: bool = True
    ) -> float | None:
        """Return the seconds until try `attempt + 1` (the first is 0), or None to give up."""
        unprocessed = isinstance(error, RateLimited) or isinstance(error.__cause__, httpx.ConnectError)
        if attempt >= self.retries or not (repeatable or unprocessed):
            return None
        jitter = random.uniform(0.5, 1.0)  # nosec B311
        backoff = jitter * min(self.cap_s, math.ldexp(self.base_s, attempt))
        if isinstance(error, TransportError):
            return backoff
        is_transient = isinstance(error, (RateLimited, Unavailable)) or (
            isinstance(error, Conflict) and error.code == "idempotency_in_progress"
        )
        if not is_transient:
            return None
        retry_after = error.retry_after or 0.0
        return None if retry_after > self.max_retry_after_s else max(retry_after, backoff)


def send_call(call: Call[T], retry: Retry) -> Flow[T]:
    """Send a request until the gateway responds or the retries are used up.

    Raises:
        TransportError: there was no response.
        ApiError: the gateway refused the request.
    """
    attempt = 0
    while True:
        error: ApiError | TransportError
        try:
            response: httpx.Response = yield Send(call)
        except httpx.UnsupportedProtocol as failure:
            raise TransportError(str(failure)) from failure
        except httpx.RequestError as failure:
            error = TransportError(f"{failure.request.url}: {failure or type(failure).__name__}")
            error.__cause__ = failure
        else:
            if response.is_success:
                return _parse_response(call, response)
            error = from_response(response)
            if attempt and call.method == "DELETE" and isinstance(error, (Gone, NotFound)):
                return _parse_response(call, response)  # an earlier try succeeded, but its response was lost
        delay = retry.next_delay(attempt, error, repeatable=call.repeatable)
        if delay is None:
            raise error
        yield Sleep(delay)
        attempt += 1


def submit_job(
    documents: Iterable[Document], labels: Labels | None, options: SubmitOptions, retry: Retry
) -> Flow[JobInfo]:
    """Submit a job; return it as accepted.

    Raises:
        TypeError: these are not documents or not labels; nothing was sent.
    """
    key = options.get("idempotency_key") or uuid.uuid4().hex
    call = calls.submit_job(hold_documents(documents), hold_labels(labels), hold_options(options), key)
    return (yield from send_call(call, retry))


def wait_for_job(
    info: JobInfo,
    timeout_s: float | None,
    on_progress: OnProgress | None,
    retry: Retry,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[JobInfo]:
    """Wait until a job is terminal, and return it.

    Raises:
        WaitTimeout: it was not terminal within `timeout_s`.
    """
    deadline = math.inf if timeout_s is None else clock() + timeout_s
    longest = LONG_POLL_S if on_progress is None else PROGRESS_POLL_S
    while True:
        if on_progress is not None:
            on_progress(info)
        if info.done:
            return info
        remaining = deadline - clock()
        if remaining <= 0:
            raise WaitTimeout(f"job {info.id} is still {info.status} after {timeout_s} s")
        step = int(min(remaining, longest))
        began = clock()
        info = yield from send_call(calls.get_job(info.id, step), retry)
        if not info.done and clock() - began < 0.2:
            # A gateway that is shutting down responds at once; do not turn that into a busy loop.
            yield Sleep(min(max(deadline - clock(), 0.0), 0.25))


def list_items(
    build_call: Callable[[int | None, str | None], Call[ListPage[Any]]], limit: int | None, retry: Retry
) -> Flow[None]:
    """Emit the items of a list page by page, at most `limit`; `build_call` takes a page's limit and its cursor."""
    cursor: str | None = None
    remaining = limit
    while remaining is None or remaining > 0:
        page = yield from send_call(build_call(remaining, cursor), retry)
        yield Emit(page.items[:remaining])
        remaining = None if remaining is None else remaining - len(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


class ResultsReader:
    """Reads a job's results in input order, waiting for documents that are not finished yet.

    Attributes:
        done: True once every result has been returned.
    """

    def __init__(
        self,
        info: JobInfo,
        retry: Retry,
        *,
        page_size: int | None = None,
        status: str | None = None,
        follow: bool = True,
    ) -> None:
        self.done = False
        self._info = info
        self._retry = retry
        self._page_size = page_size
        self._status = status
        self._follow = follow
        self._cursor: str | None = None
        self._last_index = -1

    def read_page(self, on_wait: Callable[[JobInfo], Flow[None]] | None = None) -> Flow[tuple[Result, ...]]:
        """Return the next results, at least one unless `done`.

        Args:
            on_wait: called with the job's state about once a second until there are results.
        """
        while True:
            call = calls.list_results(self._info.id, self._cursor, self._page_size, self._status)
            page = yield from send_call(call, self._retry)
            # Without a cursor to continue from, the same page is requested again: skip results returned before.
            results = tuple(result for result in page.results if result.index > self._last_index)
            if results:
                self._last_index = results[-1].index
            has_more = page.next_cursor not in (None, self._cursor)
            self._cursor = page.next_cursor or self._cursor
            self.done = not has_more and (page.complete or not (results or self._follow))
            if results or self.done:
                return results
            if not has_more:
                yield from self._await_progress()
                if on_wait is not None:
                    yield from on_wait(self._info)

    def _await_progress(self) -> Flow[None]:
        began = time.monotonic()
        self._info = yield from send_call(calls.get_job(self._info.id, PROGRESS_POLL_S), self._retry)
        if time.monotonic() - began < 0.05:
            yield Sleep(0.05)


def emit_results(
    info: JobInfo, retry: Retry, *, page_size: int | None, status: str | None, follow: bool
) -> Flow[None]:
    """Emit every result of a job in input order."""
    reader = ResultsReader(info, retry, page_size=page_size, status=status, follow=follow)
    while not reader.done:
        yield Emit((yield from reader.read_page()))


def extract_documents(
    documents: Iterable[Document], labels: Labels | None, options: SubmitOptions, retry: Retry
) -> Flow[list[Result]]:
    """Return the results of a few documents; if /v1/extract does not finish them in time, wait for their job.

    Raises:
        TypeError: as `submit_job`.
    """
    documents, labels, options = hold_documents(documents), hold_labels(labels), hold_options(options)
    if len(documents) <= EXTRACT_LIMIT:
        key = options.get("idempotency_key") or uuid.uuid4().hex
        answer = yield from send_call(calls.extract_documents(documents, labels, options, key), retry)
        if answer.results is not None:
            return list(answer.results)
        info = answer.job
    else:
        info = yield from submit_job(documents, labels, options, retry)
    info = yield from wait_for_job(info, None, None, retry)
    reader = ResultsReader(info, retry)
    results: list[Result] = []
    while not reader.done:
        results.extend((yield from reader.read_page()))
    return results


def _parse_response(call: Call[T], response: httpx.Response) -> T:
    try:
        return call.parse(response)
    except (AttributeError, KeyError, TypeError, ValueError) as failure:
        raise ServerError(
            response.status_code,
            "unreadable_answer",
            f"the response to {call.method} {call.path} cannot be parsed; is the URL a Gleaner gateway's?",
        ) from failure
