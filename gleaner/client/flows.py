"""What the client does, as generators that do no I/O: they yield commands, a driver carries them out.

`Client` and `AsyncClient` are two drivers of the same flows, so retrying, waiting, paging and windowing are
written once. A driver answers `Send` with the response (or throws `httpx.RequestError` in), `Sleep` with
nothing, `Pull` with the next document or `END`, and hands what `Emit` has to the caller.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import httpx

from gleaner.client import calls
from gleaner.client.calls import Call, Document, Labels, Listed, SubmitOptions
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

LONG_POLL_S: Final = 30
"""How long one status request waits at the gateway when nobody looks at progress."""

PROGRESS_POLL_S: Final = 1
"""The same when somebody does: the gateway answers a wait at the end of the job only, so ask more often."""

EXTRACT_LIMIT: Final = 32
"""Documents /v1/extract takes in one call."""

WINDOW_DOCUMENTS: Final = 256
WINDOW_CHARACTERS: Final = 4_000_000
WINDOWS_AHEAD: Final = 4
"""`map` submits this many documents or characters as one job, and has this many such jobs open."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request, answer with the response."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand these to the caller, in order: results, or what a list is of."""

    found: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """Answer with the caller's next document, or `END`."""


class _End:
    """The type of `END`."""


END: Final = _End()

Command = Send | Sleep | Emit | Pull
Flow = Generator[Command, Any, T]


class Run(Generic[T]):
    """A flow being carried out.

    Attributes:
        command: what the driver is to do next, None at the end.
        value: what the flow returned, once `command` is None.
    """

    command: Command | None
    value: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.answer()

    def answer(self, reply: Any = None) -> None:
        """The command is done; this came of it."""
        self._advance(self._flow.send, reply)

    def fail(self, error: httpx.RequestError) -> None:
        """The command met no answer."""
        self._advance(self._flow.throw, error)

    def _advance(self, step: Callable[[Any], Command], value: Any) -> None:
        # StopIteration must not reach a driver: a coroutine may not raise it.
        try:
            self.command = step(value)
        except StopIteration as finished:
            self.command, self.value = None, finished.value


@dataclass(frozen=True, slots=True)
class Retry:
    """When a request is sent again.

    Only what is safe to repeat is repeated: reads, cancel and DELETE are idempotent and submissions carry a key.
    What is not (a webhook endpoint is registered) is sent again only where it certainly was not heard.

    Attributes:
        retries: repetitions after the first try.
        base_s: first back-off; doubled each time, with jitter, up to `cap_s`.
        longest_s: a `Retry-After` above this is not waited for: the error goes to the caller.
    """

    retries: int = 5
    base_s: float = 0.5
    cap_s: float = 20.0
    longest_s: float = 120.0

    def delay(self, attempt: int, error: ApiError | TransportError, *, repeatable: bool = True) -> float | None:
        """Seconds until try `attempt + 1` (the first is 0), or None to give up."""
        unheard = isinstance(error, RateLimited) or isinstance(error.__cause__, httpx.ConnectError)
        if attempt >= self.retries or not (repeatable or unheard):
            return None
        jitter = random.uniform(0.5, 1.0)  # nosec B311
        backoff = jitter * min(self.cap_s, math.ldexp(self.base_s, attempt))
        if isinstance(error, TransportError):
            return backoff
        again = isinstance(error, (RateLimited, Unavailable)) or (
            isinstance(error, Conflict) and error.code == "idempotency_in_progress"
        )
        if not again:
            return None
        asked = error.retry_after or 0.0
        return None if asked > self.longest_s else max(asked, backoff)


def request(call: Call[T], retry: Retry) -> Flow[T]:
    """Send until answered or out of retries.

    Raises:
        TransportError: nothing answered.
        ApiError: the gateway refused.
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
                return _parsed(call, response)
            error = from_response(response)
            if attempt and call.method == "DELETE" and isinstance(error, (Gone, NotFound)):
                return _parsed(call, response)  # a try before this one did it, and its answer was lost
        delay = retry.delay(attempt, error, repeatable=call.repeatable)
        if delay is None:
            raise error
        yield Sleep(delay)
        attempt += 1


def submit(
    documents: Sequence[Document], labels: Labels | None, options: SubmitOptions, retry: Retry
) -> Flow[JobInfo]:
    """One job, accepted."""
    key = options.get("idempotency_key") or uuid.uuid4().hex
    return (yield from request(calls.submit(documents, labels, options, key), retry))


def wait(
    info: JobInfo,
    timeout_s: float | None,
    on_progress: Callable[[JobInfo], None] | None,
    retry: Retry,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[JobInfo]:
    """The job once it is terminal.

    Raises:
        WaitTimeout: it was not within `timeout_s`.
    """
    deadline = math.inf if timeout_s is None else clock() + timeout_s
    longest = LONG_POLL_S if on_progress is None else PROGRESS_POLL_S
    while True:
        if on_progress is not None:
            on_progress(info)
        if info.done:
            return info
        left = deadline - clock()
        if left <= 0:
            raise WaitTimeout(f"job {info.id} is still {info.status} after {timeout_s} s")
        step = int(min(left, longest))
        began = clock()
        info = yield from request(calls.job(info.id, step), retry)
        if not info.done and clock() - began < 0.2:
            # A gateway that is shutting down answers at once; do not turn that into a busy loop.
            yield Sleep(min(max(deadline - clock(), 0.0), 0.25))


def listed(
    page: Callable[[int | None, str | None], Call[Listed[Any]]], limit: int | None, retry: Retry
) -> Flow[None]:
    """What a list is of, page by page, at most `limit`; `page` is asked for so many after this cursor."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        found = yield from request(page(left, cursor), retry)
        yield Emit(found.items[:left])
        left = None if left is None else left - len(found.items)
        cursor = found.next_cursor
        if cursor is None:
            return


class ResultsReader:
    """Walks a job's results in input order, waiting for what is not finished yet.

    Attributes:
        done: True once every result has been handed out.
    """

    def __init__(
        self, info: JobInfo, retry: Retry, *, page_size: int | None, status: str | None, follow: bool
    ) -> None:
        self.done = False
        self._info = info
        self._retry = retry
        self._page_size = page_size
        self._status = status
        self._follow = follow
        self._cursor: str | None = None
        self._last_index = -1

    def next_page(self) -> Flow[tuple[Result, ...]]:
        """The results that follow, at least one unless `done`."""
        while True:
            call = calls.results(self._info.id, self._cursor, self._page_size, self._status)
            page = yield from request(call, self._retry)
            # Without a cursor to go on from, the same stretch is asked for again: skip what was handed out.
            fresh = tuple(result for result in page.results if result.index > self._last_index)
            if fresh:
                self._last_index = fresh[-1].index
            more = page.next_cursor not in (None, self._cursor)
            self._cursor = page.next_cursor or self._cursor
            self.done = not more and (page.complete or not (fresh or self._follow))
            if fresh or self.done:
                return fresh
            if not more:
                yield from self._pause()

    def _pause(self) -> Flow[None]:
        began = time.monotonic()
        self._info = yield from request(calls.job(self._info.id, PROGRESS_POLL_S), self._retry)
        if time.monotonic() - began < 0.05:
            yield Sleep(0.05)


def results(info: JobInfo, retry: Retry, *, page_size: int | None, status: str | None, follow: bool) -> Flow[None]:
    """Every result of a job, emitted in input order."""
    reader = ResultsReader(info, retry, page_size=page_size, status=status, follow=follow)
    while not reader.done:
        yield Emit((yield from reader.next_page()))


def extract(
    documents: Sequence[Document], labels: Labels | None, options: SubmitOptions, retry: Retry
) -> Flow[list[Result]]:
    """The results of a few documents, waited for; a job like any other if the call is too short for it."""
    if len(documents) <= EXTRACT_LIMIT:
        key = options.get("idempotency_key") or uuid.uuid4().hex
        answer = yield from request(calls.extract(documents, labels, options, key), retry)
        if answer.results is not None:
            return list(answer.results)
        info = answer.job
    else:
        info = yield from submit(documents, labels, options, retry)
    info = yield from wait(info, None, None, retry)
    reader = ResultsReader(info, retry, page_size=None, status=None, follow=True)
    found: list[Result] = []
    while not reader.done:
        found.extend((yield from reader.next_page()))
    return found


@dataclass(frozen=True, slots=True)
class MapProgress:
    """How far a `map` is.

    Attributes:
        done: results handed out.
        failed: those of them whose document did not succeed.
        submitted: documents read and submitted so far.
        total: documents in all; None where the source has no length.
    """

    done: int = 0
    failed: int = 0
    submitted: int = 0
    total: int | None = None


def map_documents(
    labels: Labels | None,
    options: SubmitOptions,
    retry: Retry,
    total: int | None = None,
    on_progress: Callable[[MapProgress], None] | None = None,
) -> Flow[None]:
    """The results of any number of documents, in order, with a bounded number of them under way."""
    if "idempotency_key" in options:
        raise TypeError("map submits many jobs; they cannot share one idempotency_key")
    base, exhausted = 0, False
    progress = MapProgress(total=total)
    tell = on_progress or (lambda _progress: None)
    under_way: deque[tuple[int, JobInfo, list[bool]]] = deque()
    while under_way or not exhausted:
        while not exhausted and len(under_way) < WINDOWS_AHEAD:
            window, exhausted = yield from _pull_window()
            if window:
                info = yield from submit(window, labels, options, retry)
                named = [not isinstance(item, str) and "id" in item for item in window]
                under_way.append((base, info, named))
                base += len(window)
                progress = replace(progress, submitted=base)
                tell(progress)
        if under_way:
            first, info, named = under_way.popleft()
            reader = ResultsReader(info, retry, page_size=None, status=None, follow=True)
            while not reader.done:
                page = yield from reader.next_page()
                yield Emit(tuple(_renumbered(result, first, named) for result in page))
                failed = sum(not result.ok for result in page)
                progress = replace(progress, done=progress.done + len(page), failed=progress.failed + failed)
                tell(progress)


def _pull_window() -> Flow[tuple[list[Document], bool]]:
    window: list[Document] = []
    held = 0
    while len(window) < WINDOW_DOCUMENTS and held < WINDOW_CHARACTERS:
        item: Document | _End = yield Pull()
        if isinstance(item, _End):
            return window, True
        window.append(item)
        held += calls.characters(item)
    return window, False


def _renumbered(result: Result, first: int, named: Sequence[bool]) -> Result:
    """A job's result as one of the whole: its index, and where the caller gave none, its id."""
    index = first + result.index
    return replace(result, index=index, id=result.id if named[result.index] else str(index))


def _parsed(call: Call[T], response: httpx.Response) -> T:
    try:
        return call.parse(response)
    except (AttributeError, KeyError, TypeError, ValueError) as failure:
        raise ServerError(
            response.status_code,
            "unreadable_answer",
            f"{call.method} {call.path} got an answer this client cannot read; is this a Gleaner gateway?",
        ) from failure
