"""Windows of many shards and jobs become micro-batches, and each shard gets its own windows' spans back.

Greedy: the model never waits while there is work. A thread a stream collates and runs the model; another decodes,
or the stream's own where a second stream stands by for what comes next. Short interactive texts have an express of
their own beside the streams, where the engine has one, so that they wait for nobody's long rows.
Whatever goes wrong with a micro-batch is narrowed down by halving it, until only the guilty window fails.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Queue
from threading import Condition, RLock, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self

from jobs.schema import DocumentErrorCode
from worker.batching.observer import Observer
from worker.batching.pending import Item, Questions, Ticket, everyone, fail_all
from worker.batching.policy import Turns, Waiting, choose
from worker.protocols import (
    Dropped,
    Engine,
    EngineBroken,
    Failed,
    Outcome,
    OutOfMemory,
    ShardRef,
    Span,
    Spans,
    Window,
    row_length,
)

log = logging.getLogger(__name__)

TICK_S = 1.0
LOOK_S = 0.25
"""How often who waits for the model to be empty looks whether it still should."""
DECODE_AHEAD = 2
"""Micro-batches that may wait for decoding; their scores take memory."""
LOOK_AHEAD = 256
"""Windows of one priority among which a micro-batch is chosen: enough of like length. To look through all of a
large job's, which are a thousand, took a millisecond for each micro-batch, with everybody else locked out."""


class MicroBatcher:
    """Runs windows through the engine in micro-batches.

    Of windows in flight that ask the same of the same words, one runs, and all get its spans.

    Args:
        engine: the model.
        budget_tokens: padded tokens a micro-batch may have.
        before_forward: called before every forward pass with the shards in it, so that their part in a crash is
            known, by the thread that runs it; what it raises goes to the futures of those windows.
        observer: where numbers go.
        clock: monotonic seconds.
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
        self._budget = budget_tokens
        self._before_forward = before_forward
        self._observer = observer or Observer()
        self._clock = clock
        lock = RLock()
        self._changed = Condition(lock)  # streams wait on it, and who waits for the model to be empty
        self._express_changed = Condition(lock)
        self._express_idle = False
        self._items: list[Item] = []  # waiting, oldest first
        self._questions = Questions()  # of those that wait or run
        self._again: deque[list[Item]] = deque()  # halves of a micro-batch that failed
        self._running = 0
        self._idle = 0  # streams that wait for work
        self._turns = Turns()
        self._express_turns = Turns()  # apart: a choice forgets whom it does not see
        self._exclusive = False
        self._closing = False
        self._broken = False
        self._ticks = dict.fromkeys(range(engine.streams + (engine.express_tokens > 0)), clock())
        self._decoding_since = math.inf
        self._decoding: Queue[tuple[list[Item], Any, Any] | None] = Queue(DECODE_AHEAD)
        self._threads = (
            *(Thread(target=self._run_model, args=[n], name=f"model-{n}", daemon=True) for n in self._ticks),
            Thread(target=self._run_decoder, name="decoder", daemon=True),
        )

    def start(self) -> Self:
        """Start the threads; what was submitted before waits for this."""
        for thread in self._threads:
            thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def last_tick(self) -> float:
        """When all threads last had come round, by the clock; it stands still while a call of the model hangs."""
        return min(*self._ticks.values(), self._decoding_since)

    @property
    def budget(self) -> int:
        """Padded tokens that a micro-batch may have now."""
        return self._budget

    @property
    def broken(self) -> bool:
        """True once the device is lost: every future fails with EngineBroken, and the process must end."""
        return self._broken

    @property
    def held(self) -> tuple[int, int]:
        """Windows that wait, and windows in the model or being decoded."""
        with self._changed:
            return len(self._items), self._running

    def submit(
        self,
        job_id: str,
        windows: Sequence[Window],
        *,
        tenant: str = "",
        interactive: bool = False,
        solo: bool = False,
    ) -> Future[tuple[Outcome, ...]]:
        """Queue a job's windows.

        Args:
            job_id: whose turn they are charged to, among those of its tenant.
            tenant: whose turn that is charged to first.
            windows: what to run; may be empty.
            interactive: before standard windows.
            solo: each runs with nothing else in the forward pass.

        Returns:
            A future of one outcome per window, in order. It raises `Dropped` after `drop`, `EngineBroken` if the
            device is lost, and what `before_forward` raised; never while one of its windows is in the model.

        Raises:
            RuntimeError: after `close`.
        """
        ticket = Ticket(len(windows))
        if not windows:
            ticket.future.set_result(())
            return ticket.future
        short = sum(window.cost for window in windows) <= self._engine.express_tokens
        express = interactive and short and not solo
        items = [
            Item(window, ticket, slot, Waiting(job_id, window.cost, interactive, solo, tenant), express=express)
            for slot, window in enumerate(windows)
        ]
        with self._changed:
            if self._closing:
                raise RuntimeError("the micro-batcher is closed")
            if self._broken:
                ticket.future.set_exception(EngineBroken("the device is lost"))
                return ticket.future
            new = [item for item in items if not self._questions.joined(item)]
            self._items += new
            self._wake_for(new)
        return ticket.future

    def _wake_for(self, items: Sequence[Item]) -> None:
        """Wake no more threads than are of use: one that wakes for nothing takes the interpreter from others."""
        if self._express_idle and items and items[0].express:
            self._express_changed.notify()
        else:
            self._changed.notify(len(items))

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self._express_changed.notify_all()

    def drop(self, job_id: str, shard: int | None = None) -> int:
        """Forget a job's windows (or one shard's) that have not started; their futures raise `Dropped`.

        A future of which other windows have started waits for these: until then they may end the process.

        Returns:
            How many windows were dropped.
        """

        def dropped(item: Item) -> bool:
            owner = item.window.owner
            return owner.job_id == job_id and shard in (None, owner.shard)

        with self._changed:
            gone = [item for item in self._items if dropped(item)]
            self._items = [item for item in self._items if not dropped(item)]
            for item in self._items:
                gone += [copy for copy in item.copies if dropped(copy)]
                item.copies = [copy for copy in item.copies if not dropped(copy)]
            orphans = [copy for item in gone for copy in item.copies]
            gone += [copy for copy in orphans if dropped(copy)]
            self._questions.forget(gone)
            # Who waited for a dropped one goes to the end of the queue, or on to another that asks the same.
            self._items += [copy for copy in orphans if not dropped(copy) and not self._questions.joined(copy)]
            done = [item.ticket for item in gone if item.ticket.record(item.slot, None)]
            self._wake_all()
        for ticket in done:
            ticket.settle()
        return len(gone)

    @contextmanager
    def exclusively(self, ended: Callable[[], bool]) -> Iterator[None]:
        """Run nothing but solo windows during the block, which begins when all others have left the model.

        Args:
            ended: looked at during the wait.

        Raises:
            Dropped: it has ended.
        """
        self._exclusive = True
        try:
            with self._changed:
                while self._running:
                    if ended():
                        raise Dropped
                    self._changed.wait(LOOK_S)
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._wake_all()

    def close(self, timeout: float | None = None) -> bool:
        """Take no more, finish what is there; returns whether that was done within `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._wake_all()
        deadline = None if timeout is None else monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run_model(self, stream: int) -> None:
        express = stream == self._engine.streams
        while (items := self._take_express(stream) if express else self._take(stream)) is not None:
            self._run(items, decode_here=express)
            del items  # an idle loop must not keep texts
        self._ticks[stream] = math.inf
        self._decoding.put(None)

    def _take(self, stream: int) -> list[Item] | None:
        """The next micro-batch; None once everything is done after `close`."""
        with self._changed:
            while True:
                self._ticks[stream] = self._clock()
                if self._again:
                    return self._again.popleft()
                if self._items and not self._exclusive:
                    items, self._turns = self._choose(self._seen(), self._turns, self._budget)
                    return items
                solo = next((i for i, item in enumerate(self._items) if item.waiting.solo), None)
                if solo is not None and not self._running:
                    self._running += 1
                    return [self._items.pop(solo)]
                if self._closing and not self._running and not self._items:
                    return None
                self._idle += 1
                self._changed.wait(TICK_S)
                self._idle -= 1

    def _take_express(self, stream: int) -> list[Item] | None:
        """The next micro-batch of short interactive texts; None once everything is done after `close`."""
        with self._express_changed:
            while True:
                self._ticks[stream] = self._clock()
                short = [] if self._exclusive else [i for i in self._seen() if self._items[i].express]
                if short:
                    budget = min(self._engine.express_tokens, self._budget)
                    items, self._express_turns = self._choose(short, self._express_turns, budget)
                    self._changed.notify(len(short) - len(items))  # what was left to it and does not fit
                    return items
                if self._closing and not self._running and not self._items and not self._again:
                    return None
                self._express_idle = True
                self._express_changed.wait(TICK_S)
                self._express_idle = False

    def _choose(self, seen: Sequence[int], turns: Turns, budget: int) -> tuple[list[Item], Turns]:
        choice = choose([self._items[i].waiting for i in seen], turns, budget)
        chosen = [seen[i] for i in choice.picked]
        items = [self._items[i] for i in chosen]
        for i in sorted(chosen, reverse=True):
            del self._items[i]
        self._running += len(items)
        return items, choice.turns

    def _seen(self) -> Sequence[int]:
        """What a choice looks at: the oldest of either priority, and the oldest of each other job."""
        if len(self._items) <= LOOK_AHEAD:
            return range(len(self._items))
        seen, jobs, room = list[int](), set[str](), {True: LOOK_AHEAD, False: LOOK_AHEAD}
        for i, item in enumerate(self._items):
            waiting = item.waiting
            if room[waiting.interactive]:
                room[waiting.interactive] -= 1
            elif waiting.job in jobs:
                continue
            jobs.add(waiting.job)
            seen.append(i)
        return seen

    def _run(self, items: list[Item], *, decode_here: bool) -> None:
        windows = [item.window for item in items]
        padded = len(windows) * row_length(max(window.row_tokens for window in windows))
        try:
            self._before_forward(frozenset(window.owner for window in windows))
        except Exception as error:  # noqa: BLE001  # theirs to judge: the owner of the shards gets it
            self._settle(items, error)
            return
        jobs, real = len({window.owner.job_id for window in windows}), sum(window.row_tokens for window in windows)
        self._observer.microbatch(len(windows), jobs, real, padded)
        try:
            start = self._clock()
            batch = self._engine.collate(windows)
            collated = self._clock()
            raw = self._engine.forward(batch)
            self._observer.stage("collate", collated - start)
            self._observer.stage("forward", self._clock() - collated)
        except OutOfMemory:
            self._out_of_memory(items, len(windows) * max(window.cost for window in windows))
        except EngineBroken as error:
            self._break(items, error)
        except Exception as error:  # noqa: BLE001  # any fault of a document must end at that document
            self._halve(items, error)
        else:
            with self._changed:
                relieved = self._idle > 0 and not self._items and not self._again
            if relieved or decode_here:  # a hand-over to the decoder would only take time
                self._decode(items, batch, raw)
            else:
                self._decoding.put((items, batch, raw))

    def _run_decoder(self) -> None:
        for _ in self._ticks:  # until every model thread has ended
            while (job := self._decoding.get()) is not None:
                self._decoding_since = self._clock()
                self._decode(*job)
                self._decoding_since = math.inf
                del job

    def _decode(self, items: list[Item], batch: Any, raw: Any) -> None:
        try:
            start = self._clock()
            spans = self._engine.decode(batch, raw)
            self._observer.stage("decode", self._clock() - start)
            outcomes = [_outcome(found) for _, found in zip(items, spans, strict=True)]
        except EngineBroken as error:  # scores may still be on their way from the device
            self._break(items, error)
        except Exception as error:  # noqa: BLE001
            self._halve(items, error)
        else:
            self._settle(items, outcomes)

    def _out_of_memory(self, items: list[Item], tokens: int) -> None:
        self._engine.release_memory()
        action = "split" if len(items) > 1 else "failed"
        log.warning("microbatch.out_of_memory", extra={"windows": len(items), "tokens": tokens, "action": action})
        self._observer.out_of_memory(action)
        if len(items) > 1:
            with self._changed:
                self._budget = min(self._budget, tokens * 3 // 4)
            self._requeue_halves(items)
        else:
            failed = Failed(DocumentErrorCode.OUT_OF_MEMORY, "The device's memory is too small for this document.")
            self._settle(items, [failed])

    def _halve(self, items: list[Item], error: Exception) -> None:
        """Find the window that an error comes from; say only the error's kind, its message may quote the text."""
        if len(items) > 1:
            self._requeue_halves(items)
            return
        name = type(error).__name__
        log.error("microbatch.window_failed", extra={"error": name, "document": items[0].window.document})
        self._settle(items, [Failed(DocumentErrorCode.INFERENCE_FAILED, f"The model failed on it ({name}).")])

    def _requeue_halves(self, items: list[Item]) -> None:
        middle = len(items) // 2
        with self._changed:
            self._again.extendleft((items[middle:], items[:middle]))
            self._changed.notify_all()

    def _settle(self, items: list[Item], outcomes: Sequence[Outcome] | Exception) -> None:
        done: list[Ticket] = []
        with self._changed:
            self._running -= len(items)
            self._questions.forget(items)
            if not isinstance(outcomes, Exception):
                for item, outcome in zip(items, outcomes, strict=True):
                    done += [each.ticket for each in everyone([item]) if each.ticket.record(each.slot, outcome)]
            if self._closing or self._exclusive:  # and these may have been the last that somebody waited for
                self._wake_all()
        if isinstance(outcomes, Exception):
            fail_all(items, outcomes)
        for ticket in done:
            ticket.settle()

    def _break(self, items: list[Item], error: EngineBroken) -> None:
        log.critical("engine.broken", extra={"error": str(error)})
        with self._changed:
            self._broken = True
            lost = [*items, *(item for half in self._again for item in half), *self._items]
            self._running -= len(lost) - len(self._items)
            self._again.clear()
            self._items = []
            self._questions = Questions()
            self._wake_all()
        fail_all(lost, error)


def _outcome(spans: Sequence[Span]) -> Outcome:
    return spans if isinstance(spans, Spans) else tuple(spans)
