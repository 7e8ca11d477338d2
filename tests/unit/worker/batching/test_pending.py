"""Tickets: several windows, one future."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import DocumentErrorCode
from worker.batching.pending import Submission
from worker.protocols import Dropped, Failed, Outcome, Span


@given(st.permutations(range(5)))
def test_outcomes_are_in_the_order_of_the_windows(order: list[int]) -> None:
    """In whichever order they are decided; the last one completes the submission."""
    submission = Submission(5)
    outcomes: list[Outcome] = [(Span(n, n + 1, 0, 0.9),) for n in range(5)]
    assert [submission.record_outcome(slot, outcomes[slot]) for slot in order] == [False] * 4 + [True]
    submission.resolve()
    assert submission.future.result(0) == tuple(outcomes)


def test_a_dropped_window_drops_the_ticket() -> None:
    """Not before all others have ended; an empty or a failed outcome is an outcome."""
    submission = Submission(3)
    submission.record_outcome(0, None)
    submission.record_outcome(1, ())
    assert not submission.future.done()
    assert submission.record_outcome(2, Failed(DocumentErrorCode.INFERENCE_FAILED, "why"))
    submission.resolve()
    with pytest.raises(Dropped):
        submission.future.result(0)


def test_the_first_end_of_a_ticket_holds() -> None:
    """An error that comes later changes nothing, nor does an outcome after an error."""
    submission = Submission(1)
    submission.fail(ValueError("first"))
    submission.fail(ValueError("second"))
    submission.record_outcome(0, ())
    submission.resolve()
    with pytest.raises(ValueError, match="first"):
        submission.future.result(0)
