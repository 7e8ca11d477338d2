"""Runs the windows of many shards and jobs in micro-batches; each shard gets its windows' spans back.

Greedy: the model never waits while there is work. One thread per lane collates and runs the model; a separate
thread decodes, or the lane's thread if a second lane is ready for the next micro-batch. Short interactive texts
have an express thread in addition to the lanes, if the engine has one, so that they never wait for long rows.
A micro-batch that fails is halved until only the window that causes the failure fails.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import Queue
from threading import Condition, RLock, Thread
from time import monotonic
from typing import Any, Self

from jobs.schema import DocumentErrorCode
from worker.batching.observer import Observer
from worker.batching.pending import PendingWindow, Submission, fail_items, make_outcome, with_copies
from worker.batching.policy import WaitingWindow
from worker.batching.waiting_list import WaitingList
from worker.protocols import (
    Dropped,
    Engine,
    EngineBroken,
    Failed,
    Outcome,
    OutOfMemory,
    ShardRef,
    Window,
    row_length,
)

log = logging.getLogger(__name__)

TICK_S = 1.0
LEASE_CHECK_S = 0.25
"""Interval at which a thread that waits for an empty model checks whether it still should."""
DECODE_AHEAD = 2
"""Micro-batches that may wait for decoding; their scores take memory."""


class MicroBatcher:
    """Runs windows through the engine in micro-batches.

    Of equal windows in flight one runs, and all get its spans.

    Args:
        engine: the model.
        budget_tokens: padded tokens of a micro-batch.
        before_forward: called before every forward pass with the shards in it, by the thread that runs it, so that
            a crash can be attributed; an exception goes to the futures of those windows.
        observer: receives numbers.
        clock: monotonic seconds.

    Attributes:
        budget: padded tokens of a micro-batch, after any lack of memory.
        is_broken: the device is lost: every future fails with EngineBroken, and the process must end.
    """

    def __init__(
        self,
        engine: Engine,
        budget_tokens: int,
        *,
        before_forward: Callable[[frozenset[ShardRef]], None] = lambda _: None,
        observer: Observer | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._engine = engine
        self.budget = budget_tokens
        self._before_forward = before_forward
        self._observer = observer or Observer()
        self._clock = clock
        lock = RLock()
        self._changed = Condition(lock)  # for lanes, and for threads that wait until the model is empty
        self._express_changed = Condition(lock)
        self._express_idle = False
        self._waiting = WaitingList()
        self._halves: deque[list[PendingWindow]] = deque()  # of micro-batches that failed
        self._running = 0
        self._idle = 0  # lanes that wait for work
        self._isolated_only = False
        self._closing = False
        self.is_broken = False
        self._ticks = dict.fromkeys(range(engine.lanes + (engine.express_tokens > 0)), clock())
        self._decoding_since = math.inf
        self._decoding: Queue[tuple[list[PendingWindow], Any, Any] | None] = Queue(DECODE_AHEAD)
        self._threads = (
            *(Thread(target=self._run_model, args=[n], name=f"model-{n}", daemon=True) for n in self._ticks),
            Thread(target=self._run_decoder, name="decoder", daemon=True),
        )

    def start(self) -> Self:
        """Start the threads; windows submitted earlier wait for this."""
        for thread in self._threads:
            thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last_tick(self) -> float:
        """Oldest of the threads' latest iterations, by the clock; it stops while a call of the model hangs."""
        return min(*self._ticks.values(), self._decoding_since)

    @property
    def window_counts(self) -> tuple[int, int]:
        """Number of windows that wait, and of windows in the model or being decoded."""
        with self._changed:
            return len(self._waiting), self._running

    def submit(
        self,
        job_id: str,
        windows: Sequence[Window],
        *,
        tenant: str = "",
        interactive: bool = False,
        isolated: bool = False,
    ) -> Future[tuple[Outcome, ...]]:
        """Queue a job's windows.

        Args:
            job_id: job whose turn among its tenant's jobs is charged.
            tenant: tenant whose turn is charged.
            windows: may be empty.
            interactive: run before standard windows.
            isolated: run each with nothing else in the forward pass.

        Returns:
            A future of one outcome per window, in order. It raises `Dropped` after `drop`, `EngineBroken` if the
            device is lost, and exceptions of `before_forward`; never while one of its windows is in the model.

        Raises:
            RuntimeError: after `close`.
        """
        submission = Submission(len(windows))
        if not windows:
            submission.future.set_result(())
            return submission.future
        short = sum(window.cost for window in windows) <= self._engine.express_tokens
        express = interactive and short and not isolated
        items = [
            PendingWindow(
                window,
                submission,
                slot,
                WaitingWindow(job_id, window.cost, interactive, isolated, tenant),
                express=express,
            )
            for slot, window in enumerate(windows)
        ]
        with self._changed:
            if self._closing:
                raise RuntimeError("the micro-batcher is closed")
            if self.is_broken:
                submission.future.set_exception(EngineBroken("the device is lost"))
                return submission.future
            self._wake_for(self._waiting.add(items))
        return submission.future

    def _wake_for(self, items: Sequence[PendingWindow]) -> None:
        """Wake no more threads than there is work for: each takes the interpreter from the others."""
        if self._express_idle and items and items[0].express:
            self._express_changed.notify()
        else:
            self._changed.notify(len(items))

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self._express_changed.notify_all()

    def drop(self, job_id: str, shard: int | None = None) -> int:
        """Drop a job's windows (or one shard's) that have not started; their futures raise `Dropped`.

        A future with windows that have started waits for these: until then they may end the process.

        Returns:
            Number of windows dropped.
        """

        def is_dropped(item: PendingWindow) -> bool:
            owner = item.window.owner
            return owner.job_id == job_id and shard in (None, owner.shard)

        with self._changed:
            dropped = self._waiting.drop(is_dropped)
            done = [item.submission for item in dropped if item.submission.record_outcome(item.slot, None)]
            self._wake_all()
        for submission in done:
            submission.resolve()
        return len(dropped)

    @contextmanager
    def run_isolated_only(self, has_ended: Callable[[], bool]) -> Iterator[None]:
        """Run nothing but isolated windows during the block, which begins when the model is empty.

        Args:
            has_ended: checked during the wait.

        Raises:
            Dropped: the wait was ended.
        """
        self._isolated_only = True
        try:
            with self._changed:
                while self._running:
                    if has_ended():
                        raise Dropped
                    self._changed.wait(LEASE_CHECK_S)
            yield
        finally:
            with self._changed:
                self._isolated_only = False
                self._wake_all()

    def close(self, timeout: float | None = None) -> bool:
        """Accept no more windows and finish the rest; return whether that took at most `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._wake_all()
        deadline = None if timeout is None else monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run_model(self, lane: int) -> None:
        express = lane == self._engine.lanes
        while (items := self._next_express(lane) if express else self._next_batch(lane)) is not None:
            self._run_batch(items, lane, decode_here=express)
            del items  # an idle loop must not keep texts
        self._ticks[lane] = math.inf
        self._decoding.put(None)

    def _tick(self, lane: int) -> None:
        self._ticks[lane] = self._clock()

    def _next_batch(self, lane: int) -> list[PendingWindow] | None:
        """Wait for the next micro-batch; return None once everything is done after `close`."""
        with self._changed:
            while True:
                self._tick(lane)
                if self._halves:
                    return self._halves.popleft()
                items: list[PendingWindow] = []
                if self._waiting and not self._isolated_only:
                    items = self._waiting.take_batch(self.budget)
                elif not self._running:
                    items = self._waiting.take_isolated()
                if items:
                    self._running += len(items)
                    return items
                if self._closing and not self._running and not self._waiting:
                    return None
                self._idle += 1
                self._changed.wait(TICK_S)
                self._idle -= 1

    def _next_express(self, lane: int) -> list[PendingWindow] | None:
        """Wait for a micro-batch of short interactive texts; return None once everything is done after `close`."""
        with self._express_changed:
            while True:
                self._tick(lane)
                budget = min(self._engine.express_tokens, self.budget)
                items, left = ([], 0) if self._isolated_only else self._waiting.take_express(budget)
                if items:
                    self._running += len(items)
                    self._changed.notify(left)  # the lanes take those that did not fit
                    return items
                if self._closing and not self._running and not self._waiting and not self._halves:
                    return None
                self._express_idle = True
                self._express_changed.wait(TICK_S)
                self._express_idle = False

    def _run_batch(self, items: list[PendingWindow], lane: int, *, decode_here: bool) -> None:
        windows = [item.window for item in items]
        padded = len(windows) * row_length(max(window.row_tokens for window in windows))
        try:
            self._before_forward(frozenset(window.owner for window in windows))
        except Exception as error:  # noqa: BLE001  # the owner of the shards decides what to do about it
            self._finish(items, error)
            return
        jobs, real = len({window.owner.job_id for window in windows}), sum(window.row_tokens for window in windows)
        self._observer.record_batch(len(windows), jobs, real, padded)
        try:
            counts = self._engine.prepare_labels(windows, partial(self._tick, lane))
            self._observer.record_labels(counts)
            start = self._clock()
            batch = self._engine.collate(windows)
            collated = self._clock()
            raw = self._engine.forward(batch)
            self._observer.record_stage("collate", collated - start)
            self._observer.record_stage("forward", self._clock() - collated)
        except OutOfMemory:
            self._handle_out_of_memory(items, len(windows) * max(window.cost for window in windows))
        except EngineBroken as error:
            self._fail_all(items, error)
        except Exception as error:  # noqa: BLE001  # a document's fault must not fail another document
            self._isolate_failure(items, error)
        else:
            with self._changed:
                lane_is_free = self._idle > 0 and not self._waiting and not self._halves
            if lane_is_free or decode_here:  # handing over to the decoder would only take time
                self._decode_batch(items, batch, raw)
            else:
                self._decoding.put((items, batch, raw))

    def _run_decoder(self) -> None:
        for _ in self._ticks:  # until every model thread has ended
            while (batch := self._decoding.get()) is not None:
                self._decoding_since = self._clock()
                self._decode_batch(*batch)
                self._decoding_since = math.inf
                del batch

    def _decode_batch(self, items: list[PendingWindow], batch: Any, raw: Any) -> None:
        try:
            start = self._clock()
            spans = self._engine.decode(batch, raw)
            self._observer.record_stage("decode", self._clock() - start)
            outcomes = [make_outcome(window_spans) for _, window_spans in zip(items, spans, strict=True)]
        except EngineBroken as error:  # the scores may still have been on their way from the device
            self._fail_all(items, error)
        except Exception as error:  # noqa: BLE001
            self._isolate_failure(items, error)
        else:
            self._finish(items, outcomes)

    def _handle_out_of_memory(self, items: list[PendingWindow], tokens: int) -> None:
        self._engine.release_memory()
        action = "split" if len(items) > 1 else "failed"
        log.warning("microbatch.out_of_memory", extra={"windows": len(items), "tokens": tokens, "action": action})
        self._observer.record_out_of_memory(action)
        if len(items) > 1:
            with self._changed:
                self.budget = min(self.budget, tokens * 3 // 4)
            self._requeue_halves(items)
        else:
            failed = Failed(DocumentErrorCode.OUT_OF_MEMORY, "The device's memory is too small for this document.")
            self._finish(items, [failed])

    def _isolate_failure(self, items: list[PendingWindow], error: Exception) -> None:
        """Find the window that causes an error; report the error's class only: its message may quote the text."""
        if len(items) > 1:
            self._requeue_halves(items)
            return
        name = type(error).__name__
        log.error("microbatch.window_failed", extra={"error": name, "document": items[0].window.document})
        self._finish(
            items, [Failed(DocumentErrorCode.INFERENCE_FAILED, f"The model failed on this document ({name}).")]
        )

    def _requeue_halves(self, items: list[PendingWindow]) -> None:
        middle = len(items) // 2
        with self._changed:
            self._halves.extendleft((items[middle:], items[:middle]))
            self._changed.notify_all()

    def _finish(self, items: list[PendingWindow], outcomes: Sequence[Outcome] | Exception) -> None:
        done: list[Submission] = []
        with self._changed:
            self._running -= len(items)
            self._waiting.forget(items)
            if not isinstance(outcomes, Exception):
                for item, outcome in zip(items, outcomes, strict=True):
                    copies = with_copies([item])
                    done += [
                        copy.submission for copy in copies if copy.submission.record_outcome(copy.slot, outcome)
                    ]
            if self._closing or self._isolated_only:  # a thread may be waiting for the last of these
                self._wake_all()
        if isinstance(outcomes, Exception):
            fail_items(items, outcomes)
        for submission in done:
            submission.resolve()

    def _fail_all(self, items: list[PendingWindow], error: EngineBroken) -> None:
        """Fail these items and all that wait: the device is lost."""
        log.critical("engine.broken", extra={"error": str(error)})
        with self._changed:
            self.is_broken = True
            running = [*items, *(item for half in self._halves for item in half)]
            self._running -= len(running)
            self._halves.clear()
            lost = [*running, *self._waiting.clear()]
            self._wake_all()
        fail_items(lost, error)
