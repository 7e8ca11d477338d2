"""Windows that wait for the model, and the futures that wait for their outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from worker.batching.policy import WaitingWindow
from worker.protocols import Dropped, Outcome, Span, Spans, Window


class Submission:
    """Windows that were submitted together, and their future.

    Args:
        windows: number of windows.
    """

    def __init__(self, windows: int) -> None:
        self.future: Future[tuple[Outcome, ...]] = Future()
        self._outcomes: list[Outcome | None] = [None] * windows
        self._missing = windows

    def record_outcome(self, slot: int, outcome: Outcome | None) -> bool:
        """Record the outcome of a window, None if it was dropped; return True once none is missing."""
        self._outcomes[slot] = outcome
        self._missing -= 1
        return not self._missing

    def resolve(self) -> None:
        """Complete the future with the outcomes, or with `Dropped` if a window was dropped."""
        if self.future.done():
            return
        outcomes = tuple(outcome for outcome in self._outcomes if outcome is not None)
        if len(outcomes) == len(self._outcomes):
            self.future.set_result(outcomes)
        else:
            self.future.set_exception(Dropped("cancelled before it ran"))

    def fail(self, error: Exception) -> None:
        """Complete the future with an error."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(eq=False, slots=True)
class PendingWindow:
    """A window of a submission.

    Attributes:
        slot: its index in the submission.
        copies: equal windows of other submissions, which get the same outcome.
        express: belongs to a short interactive text, and need not wait for a lane.
    """

    window: Window
    submission: Submission
    slot: int
    waiting: WaitingWindow
    copies: list[PendingWindow] = field(default_factory=list)
    express: bool = False


def with_copies(items: Iterable[PendingWindow]) -> Iterator[PendingWindow]:
    """Yield items, each followed by its copies."""
    for item in items:
        yield item
        yield from item.copies


def fail_items(items: Iterable[PendingWindow], error: Exception) -> None:
    """Complete the futures of items and of their copies with an error."""
    for item in with_copies(items):
        item.submission.fail(error)


def make_outcome(spans: Sequence[Span]) -> Outcome:
    """Return the spans of a window as its outcome."""
    return spans if isinstance(spans, Spans) else tuple(spans)
