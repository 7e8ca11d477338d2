"""Which windows are equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from worker.batching.dedup import Deduplicator
from worker.batching.pending import Item, Ticket
from worker.batching.policy import WaitingWindow
from worker.protocols import ShardRef, Window

WINDOW = Window(ShardRef("a", 0), 0, ("Ada",), ("person",), (0.5,), flat=True, multi_label=False, row_tokens=8)


def make_item(window: Window, **waiting: bool) -> Item:
    """Return an item of a window."""
    return Item(window, Ticket(1), 0, WaitingWindow(window.owner.job_id, 8, **waiting))


@pytest.mark.parametrize(
    ("change", "is_copy"),
    [
        ({"owner": ShardRef("b", 3), "document": 7}, True),
        ({"words": ("Bob",)}, False),
        ({"prompts": ("city",)}, False),
        ({"thresholds": (0.4,)}, False),
        ({"flat": False}, False),
        ({"multi_label": True}, False),
        ({"explain": True}, False),
        ({"max_candidates": 3}, False),
    ],
)
def test_windows_are_equal_if_nothing_that_changes_the_outcome_differs(
    change: dict[str, Any], is_copy: bool
) -> None:
    """Their owners do not matter."""
    deduplicator = Deduplicator()
    first, second = make_item(WINDOW), make_item(replace(WINDOW, **change))
    assert not deduplicator.join(first)
    assert deduplicator.join(second) is is_copy
    assert first.copies == ([second] if is_copy else [])


def test_an_interactive_window_does_not_wait_for_a_standard_one() -> None:
    """It runs itself, and later windows join it."""
    deduplicator = Deduplicator()
    standard, interactive, later = make_item(WINDOW), make_item(WINDOW, interactive=True), make_item(WINDOW)
    assert [deduplicator.join(item) for item in (standard, interactive, later)] == [False, False, True]
    assert interactive.copies == [later]
    deduplicator.forget([standard])  # another one has taken its place
    assert deduplicator.join(make_item(WINDOW))


def test_nothing_depends_on_a_window_that_may_end_the_process() -> None:
    """Nor does it depend on another."""
    deduplicator = Deduplicator()
    assert not deduplicator.join(make_item(WINDOW, isolated=True))
    assert not deduplicator.join(make_item(WINDOW))
    assert not deduplicator.join(make_item(WINDOW, isolated=True))
