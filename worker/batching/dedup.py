"""Runs one of several equal windows, and gives all of them its outcome."""

from __future__ import annotations

from collections.abc import Iterable

from worker.batching.pending import Item

DedupKey = tuple[object, ...]


def dedup_key(item: Item) -> DedupKey:
    """Return everything that the outcome of a window depends on."""
    window = item.window
    options = window.flat, window.multi_label, window.explain, window.max_candidates
    return window.words, window.prompts, window.thresholds, options


class Deduplicator:
    """The windows that wait or run, by their keys: of equal ones one runs, the others are its copies.

    Only the shard of the one that runs is at risk: a copy may join when it is too late to record its shard. Should
    the text end the process, the copies come back, and one of them runs and is at risk.
    """

    def __init__(self) -> None:
        self._items: dict[DedupKey, Item] = {}

    def join(self, item: Item) -> bool:
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

    def forget(self, items: Iterable[Item]) -> None:
        """Let no more copies join these items, whose outcomes are decided."""
        for item in items:
            key = dedup_key(item)
            if self._items.get(key) is item:
                del self._items[key]
