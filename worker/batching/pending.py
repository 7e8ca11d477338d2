"""Who waits for a window's answer: the future of those it was submitted with, and others that ask the very same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from worker.batching.policy import Waiting
from worker.protocols import Dropped, Outcome, Window


class Ticket:
    """Windows that were submitted together, and their future.

    Args:
        windows: how many.
    """

    def __init__(self, windows: int) -> None:
        self.future: Future[tuple[Outcome, ...]] = Future()
        self._outcomes: list[Outcome | None] = [None] * windows
        self._missing = windows

    def record(self, slot: int, outcome: Outcome | None) -> bool:
        """Note what became of one window, None if it was dropped; True once none is missing."""
        self._outcomes[slot] = outcome
        self._missing -= 1
        return not self._missing

    def settle(self) -> None:
        """Give the future its outcomes, or `Dropped` if one of the windows was."""
        if self.future.done():
            return
        found = tuple(outcome for outcome in self._outcomes if outcome is not None)
        if len(found) == len(self._outcomes):
            self.future.set_result(found)
        else:
            self.future.set_exception(Dropped("cancelled before it ran"))

    def fail(self, error: Exception) -> None:
        """Give the future an error."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(eq=False, slots=True)
class Item:
    """One window of a ticket.

    Attributes:
        slot: its place in the ticket.
        copies: others that ask the very same and get its answer.
        express: it belongs to a short interactive text, and need not wait for a stream.
    """

    window: Window
    ticket: Ticket
    slot: int
    waiting: Waiting
    copies: list[Item] = field(default_factory=list)
    express: bool = False

    @property
    def question(self) -> tuple[object, ...]:
        """All that its answer depends on."""
        window = self.window
        how = window.flat, window.multi_label, window.explain, window.max_candidates
        return window.words, window.prompts, window.thresholds, how


def everyone(items: Iterable[Item]) -> Iterator[Item]:
    """Items, each with its copies."""
    for item in items:
        yield item
        yield from item.copies


def fail_all(items: Iterable[Item], error: Exception) -> None:
    """Give the futures of items and of their copies an error."""
    for item in everyone(items):
        item.ticket.fail(error)


class Questions:
    """What is being asked: of items in flight with the same question one runs, the others are its copies.

    Only the one that runs is at risk with its shard: a copy may join while it does, when it is too late to write
    its own shard down. Should the text end the process, the copies come back, and one of them runs and is at risk.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[object, ...], Item] = {}

    def joined(self, item: Item) -> bool:
        """Whether its answer comes with another's, which it would not have to wait for longer than for its own."""
        if item.waiting.solo:
            return False  # it may end the process: nobody else's fate hangs on it
        question = item.question
        other = self._asked.get(question)
        if other is None or (item.waiting.interactive and not other.waiting.interactive):
            self._asked[question] = item
            return False
        other.copies.append(item)
        return True

    def forget(self, items: Iterable[Item]) -> None:
        """These get an answer now, or none: whoever asks the same from here on asks anew."""
        for item in items:
            question = item.question
            if self._asked.get(question) is item:
                del self._asked[question]
