"""The windows that wait for the model, of which equal ones run once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batching import waiting_list
from worker.batching.pending import PendingWindow, Submission
from worker.batching.policy import WaitingWindow
from worker.batching.waiting_list import Deduplicator, WaitingList
from worker.protocols import ClassPrompt, RelationPrompt, ShardRef, Window


def make_item(word: str, job: str = "job", **waiting: bool) -> PendingWindow:
    """Return a window of one word, the only one of its submission."""
    window = Window(ShardRef(job, 0), 0, (word,), ("person",), (0.5,), flat=True, multi_label=False, row_tokens=8)
    return PendingWindow(window, Submission(1), 0, WaitingWindow(job, window.cost, **waiting))


WAITING = st.fixed_dictionaries({"interactive": st.booleans(), "isolated": st.booleans()})
ITEMS = st.lists(
    st.builds(
        lambda word, job, w: make_item(word, job, **w), st.sampled_from("abc"), st.sampled_from("xyz"), WAITING
    )
)


@given(ITEMS, st.sampled_from("xyz"))
def test_every_item_runs_once_or_is_a_copy_of_one_that_does(items: list[PendingWindow], dropped_job: str) -> None:
    """Also after a job was dropped: copies that lose the item they depend on wait themselves."""
    waiting = WaitingList()
    waiting.add(items)
    dropped = waiting.drop(lambda item: item.waiting.job == dropped_job)
    assert {id(item) for item in dropped} == {id(item) for item in items if item.waiting.job == dropped_job}

    left = waiting.clear()
    carried = [*left, *(copy for item in left for copy in item.copies)]
    assert len(carried) == len({id(item) for item in carried})
    assert {id(item) for item in carried} == {id(item) for item in items} - {id(item) for item in dropped}
    for item in left:
        assert not (item.waiting.isolated and item.copies)
        assert all(copy.window.words == item.window.words and not copy.waiting.isolated for copy in item.copies)
        assert item.waiting.interactive or not any(copy.waiting.interactive for copy in item.copies)


def test_a_copy_may_join_until_the_outcome_is_decided() -> None:
    """An equal window that comes later runs itself."""
    waiting = WaitingList()
    first, second, third = (make_item("a", job) for job in "xyz")
    waiting.add([first])
    assert waiting.take_batch(100) == [first]
    assert waiting.add([second]) == []
    assert first.copies == [second]
    waiting.forget([first])
    assert waiting.add([third]) == [third]


def test_isolated_windows_are_taken_one_by_one() -> None:
    """The oldest first, and never with a batch."""
    waiting = WaitingList()
    waiting.add([make_item("a"), make_item("b", isolated=True), make_item("c", isolated=True)])
    assert [item.window.words for item in waiting.take_isolated()] == [("b",)]
    assert len(waiting) == 2
    waiting.clear()
    assert waiting.take_isolated() == []


def test_a_small_job_is_a_candidate_behind_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many windows of the large one have come before."""
    monkeypatch.setattr(waiting_list, "LOOK_AHEAD", 4)
    waiting = WaitingList()
    waiting.add(make_item(f"large {n}", "large") for n in range(50))
    small = make_item("small", "small")
    waiting.add([small])
    taken: list[PendingWindow] = []
    while small not in taken:
        taken = waiting.take_batch(16)
        assert len(waiting) > 40


WINDOW = Window(ShardRef("a", 0), 0, ("Ada",), ("person",), (0.5,), flat=True, multi_label=False, row_tokens=8)


def duplicate(window: Window, **waiting: bool) -> PendingWindow:
    """Return an item of a window."""
    return PendingWindow(window, Submission(1), 0, WaitingWindow(window.owner.job_id, 8, **waiting))


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
        ({"relations": (RelationPrompt("knows", 0.5),)}, False),
        ({"classes": (ClassPrompt("tone", ("good",), (None,), False),)}, False),
    ],
)
def test_windows_are_equal_if_nothing_that_changes_the_outcome_differs(
    change: dict[str, Any], is_copy: bool
) -> None:
    """Their owners do not matter."""
    deduplicator = Deduplicator()
    first, second = duplicate(WINDOW), duplicate(replace(WINDOW, **change))
    assert not deduplicator.join(first)
    assert deduplicator.join(second) is is_copy
    assert first.copies == ([second] if is_copy else [])


def test_an_interactive_window_does_not_wait_for_a_standard_one() -> None:
    """It runs itself, and later windows join it."""
    deduplicator = Deduplicator()
    standard, interactive, later = duplicate(WINDOW), duplicate(WINDOW, interactive=True), duplicate(WINDOW)
    assert [deduplicator.join(item) for item in (standard, interactive, later)] == [False, False, True]
    assert interactive.copies == [later]
    deduplicator.forget([standard])  # another one has taken its place
    assert deduplicator.join(duplicate(WINDOW))


def test_nothing_depends_on_a_window_that_may_end_the_process() -> None:
    """Nor does it depend on another."""
    deduplicator = Deduplicator()
    assert not deduplicator.join(duplicate(WINDOW, isolated=True))
    assert not deduplicator.join(duplicate(WINDOW))
    assert not deduplicator.join(duplicate(WINDOW, isolated=True))
