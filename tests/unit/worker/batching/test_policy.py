from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batching.policy import STANDARD_SHARE, Turns, WaitingWindow, choose_batch

BUDGET = 1024
WINDOWS = st.builds(
    WaitingWindow,
    job=st.sampled_from(["a", "b", "c"]),
    tokens=st.integers(1, 1500),
    interactive=st.booleans(),
    isolated=st.sampled_from([False, False, False, True]),
)


def drain(waiting: list[WaitingWindow], budget: int = BUDGET) -> list[list[WaitingWindow]]:
    """All micro-batches until nothing waits."""
    batches, turns = [], Turns()
    while waiting:
        choice = choose_batch(waiting, turns, budget)
        turns = choice.turns
        batches.append([waiting[i] for i in choice.indexes])
        waiting = [w for i, w in enumerate(waiting) if i not in choice.indexes]
    return batches


@given(st.lists(WINDOWS, min_size=1, max_size=60))
def test_every_window_runs_once_within_the_budget(waiting: list[WaitingWindow]) -> None:
    """Every window runs, nothing runs twice; over the budget only alone; an isolated window only alone."""
    batches = drain(waiting)

    assert Counter(waiting) == Counter(w for batch in batches for w in batch)
    for batch in batches:
        padded = len(batch) * max(w.tokens for w in batch)
        assert padded <= BUDGET or len(batch) == 1
        assert len(batch) == 1 or not any(w.isolated for w in batch)
        assert len({w.interactive for w in batch}) == 1


@given(st.lists(WINDOWS, min_size=1, max_size=60))
def test_padding_stays_below_what_it_saves(waiting: list[WaitingWindow]) -> None:
    """A window joins only where its padding is cheaper than a separate forward pass."""
    for batch in drain(waiting):
        padded = len(batch) * max(w.tokens for w in batch)
        assert padded - sum(w.tokens for w in batch) <= (len(batch) - 1) * (BUDGET // 16)


def test_a_small_job_is_not_kept_waiting_by_a_large_one() -> None:
    """A one-window job that comes while 10,000 windows wait is in one of the next two micro-batches."""
    turns = Turns()
    waiting = [WaitingWindow("large", 100)] * 200
    for _ in range(5):
        choice = choose_batch(waiting, turns, BUDGET)
        turns, waiting = choice.turns, waiting[len(choice.indexes) :]

    batches = [choose_batch([*waiting, WaitingWindow("small", 300)], turns, BUDGET)]
    batches.append(choose_batch([*waiting, WaitingWindow("small", 300)], batches[0].turns, BUDGET))

    assert any(len(waiting) in choice.indexes for choice in batches)


def test_jobs_share_the_model_by_tokens_not_by_windows() -> None:
    """While both wait, a job of long windows gets no more tokens than a job of short ones."""
    waiting = [*[WaitingWindow("long", 500)] * 40, *[WaitingWindow("short", 50)] * 400]
    turns, served = Turns(), Counter[str]()
    for _ in range(20):
        choice = choose_batch(waiting, turns, BUDGET)
        turns = choice.turns
        for i in choice.indexes:
            served[waiting[i].job] += waiting[i].tokens
        waiting = [w for i, w in enumerate(waiting) if i not in choice.indexes]

    assert abs(served["long"] - served["short"]) <= BUDGET


def test_a_forward_pass_mixes_jobs() -> None:
    """Windows of like length fill up, whoever owns them."""
    waiting = [WaitingWindow(f"job{i}", 100 + i) for i in range(30)]

    assert len(choose_batch(waiting, Turns(), BUDGET).indexes) == 9


@pytest.mark.parametrize(
    ("budget", "standard", "interactive"), [(1024, 16, 8), (512, 8, 4), (256, 4, 4), (128, 2, 2)]
)
def test_interactive_micro_batches_are_half_as_large(budget: int, standard: int, interactive: int) -> None:
    """An interactive window waits for fewer others; but a small micro-batch is not halved."""

    def windows(urgent: bool) -> int:
        return len(choose_batch([WaitingWindow("job", 64, interactive=urgent)] * 20, Turns(), budget).indexes)

    assert (windows(urgent=False), windows(urgent=True)) == (standard, interactive)


def test_the_oldest_window_of_a_job_goes_first() -> None:
    """Within a job order is kept for the window that leads."""
    waiting = [WaitingWindow("a", 400), WaitingWindow("a", 10), WaitingWindow("a", 10)]

    assert choose_batch(waiting, Turns(), BUDGET).indexes == (0,)


def test_interactive_goes_first_but_standard_keeps_its_share() -> None:
    """With both always waiting, standard gets a fifth of the tokens: neither more nor nothing."""
    waiting = [*[WaitingWindow("std", 100)] * 10, *[WaitingWindow("now", 100, interactive=True)] * 10]
    turns, tokens = Turns(), Counter[str]()
    first = choose_batch(waiting, turns, BUDGET)
    assert all(waiting[i].interactive for i in first.indexes)
    for _ in range(500):
        choice = choose_batch(waiting, turns, BUDGET)
        turns = choice.turns
        for i in choice.indexes:
            tokens[waiting[i].job] += waiting[i].tokens

    assert abs(tokens["std"] / tokens.total() - STANDARD_SHARE) < 0.02


def test_tiny_interactive_passes_do_not_starve_standard() -> None:
    """A trickle of one-window calls pays for the forward passes it takes, not only for its few tokens."""
    waiting = [WaitingWindow("std", 100), WaitingWindow("now", 5, interactive=True)]
    turns, standard = Turns(), 0
    for _ in range(100):
        choice = choose_batch(waiting, turns, BUDGET)
        turns = choice.turns
        standard += waiting[choice.indexes[0]].job == "std"

    assert 15 <= standard <= 25


def test_a_job_that_returns_has_no_credit_from_its_absence() -> None:
    """A job's turn starts level with those that wait; turns before its arrival are not made up for."""
    turns = choose_batch([WaitingWindow("a", 100)], Turns({"a": 5000}), BUDGET).turns
    choice = choose_batch([WaitingWindow("a", 100), WaitingWindow("new", 100)], turns, BUDGET)

    assert choice.turns.jobs["new"] >= 5000


def test_tenants_take_turns_before_jobs() -> None:
    """A tenant with a hundred jobs gets half of the work next to a tenant with one."""
    turns, tokens = Turns(), Counter[str]()
    for _ in range(100):
        waiting = [WaitingWindow(f"a{number}", BUDGET, tenant="a") for number in range(100)]
        waiting.append(WaitingWindow("b0", BUDGET, tenant="b"))
        choice = choose_batch(waiting, turns, BUDGET)
        turns = choice.turns
        tokens.update(waiting[i].tenant for i in choice.indexes)
    assert tokens == {"a": 50, "b": 50}
