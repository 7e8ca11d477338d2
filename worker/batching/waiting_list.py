"""The windows that wait for the model: deduplicated, chosen by turns. No threads; the caller locks.

Of equal windows one runs, and all get its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from worker.batching.pending import PendingWindow
from worker.batching.policy import Turns, choose_batch

LOOK_AHEAD = 256
"""Windows of each priority among which a micro-batch is chosen: enough of similar length. Searching all of a large
job's windows, which are a thousand, took a millisecond per micro-batch, with every other thread locked out."""

DedupKey = tuple[object, ...]


def dedup_key(item: PendingWindow) -> DedupKey:
    """Return everything that the outcome of a window depends on."""
    window = item.window
    options = window.flat, window.multi_label, window.explain, window.max_candidates
    return window.words, window.prompts, window.thresholds, window.relations, window.classes, options


class Deduplicator:
    """The windows that wait or run, by their keys: of equal ones one runs, the others are its copies.

    Only the shard of the one that runs is at risk: a copy may join when it is too late to record its shard. Should
    the text end the process, the copies come back, and one of them runs and is at risk.
    """

    def __init__(self) -> None:
        self._items: dict[DedupKey, PendingWindow] = {}

    def join(self, item: PendingWindow) -> bool:
        """Make the item a copy of an equal one, unless it would wait for longer; return whether it is one now."""
        if item.waiting.isolated:
            return False  # it may end the process: nothing else may depend on it
        key = dedup_key(item)
        running = self._items.get(key)
        if running is None or (item.waiting.interactive and not running.waiting.interactive):
            self._items[key] = item
            return False
        running.copies.append(item)
        return True

    def forget(self, items: Iterable[PendingWindow]) -> None:
        """Let no more copies join these items, whose outcomes are decided."""
        for item in items:
            key = dedup_key(item)
            if self._items.get(key) is item:
                del self._items[key]


class WaitingList:
    """Windows in the order of their arrival, of which micro-batches are taken."""

    def __init__(self) -> None:
        self._items: list[PendingWindow] = []  # oldest first
        self._deduplicator = Deduplicator()  # of windows that wait or run
        self._turns = Turns()
        self._express_turns = Turns()  # separate: a choice forgets the jobs that it does not see

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Iterable[PendingWindow]) -> list[PendingWindow]:
        """Add items; return those that are not copies of others."""
        new = [item for item in items if not self._deduplicator.join(item)]
        self._items += new
        return new

    def take_batch(self, budget: int) -> list[PendingWindow]:
        """Remove and return the next micro-batch; the list must not be empty."""
        items, self._turns = self._take(self._candidates(), self._turns, budget)
        return items

    def take_express(self, budget: int) -> tuple[list[PendingWindow], int]:
        """Remove and return a micro-batch of short interactive texts, and the number of those that are left."""
        short = [i for i in self._candidates() if self._items[i].express]
        if not short:
            return [], 0
        items, self._express_turns = self._take(short, self._express_turns, budget)
        return items, len(short) - len(items)

    def take_isolated(self) -> list[PendingWindow]:
        """Remove and return the oldest isolated window, or none."""
        isolated = next((i for i, item in enumerate(self._items) if item.waiting.isolated), None)
        return [] if isolated is None else [self._items.pop(isolated)]

    def drop(self, is_dropped: Callable[[PendingWindow], bool]) -> list[PendingWindow]:
        """Remove and return items; copies that lose the item they depend on wait again, or join another."""
        dropped = [item for item in self._items if is_dropped(item)]
        self._items = [item for item in self._items if not is_dropped(item)]
        for item in self._items:
            dropped += [copy for copy in item.copies if is_dropped(copy)]
            item.copies = [copy for copy in item.copies if not is_dropped(copy)]
        orphans = [copy for item in dropped for copy in item.copies]
        dropped += [copy for copy in orphans if is_dropped(copy)]
        self._deduplicator.forget(dropped)
        self.add(copy for copy in orphans if not is_dropped(copy))
        return dropped

    def forget(self, items: Iterable[PendingWindow]) -> None:
        """Let no more copies join items whose outcomes are decided."""
        self._deduplicator.forget(items)

    def clear(self) -> list[PendingWindow]:
        """Remove and return all items."""
        items, self._items = self._items, []
        self._deduplicator = Deduplicator()
        return items

    def _take(self, candidates: Sequence[int], turns: Turns, budget: int) -> tuple[list[PendingWindow], Turns]:
        choice = choose_batch([self._items[i].waiting for i in candidates], turns, budget)
        indexes = [candidates[i] for i in choice.indexes]
        items = [self._items[i] for i in indexes]
        for i in sorted(indexes, reverse=True):
            del self._items[i]
        return items, choice.turns

    def _candidates(self) -> Sequence[int]:
        """Return the items to choose from: the oldest of either priority, and the oldest of each other job."""
        if len(self._items) <= LOOK_AHEAD:
            return range(len(self._items))
        candidates, jobs, left = list[int](), set[str](), {True: LOOK_AHEAD, False: LOOK_AHEAD}
        for i, item in enumerate(self._items):
            waiting = item.waiting
            if left[waiting.interactive]:
                left[waiting.interactive] -= 1
            elif waiting.job in jobs:
                continue
            jobs.add(waiting.job)
            candidates.append(i)
        return candidates
