"""Tickets: several windows, one future."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import DocumentErrorCode
from worker.batching.pending import Ticket
from worker.protocols import Dropped, Failed, Outcome, Span


@given(st.permutations(range(5)))
def test_outcomes_are_in_the_order_of_the_windows(order: list[int]) -> None:
    """In whichever order they are decided; the last one completes the ticket."""
    ticket = Ticket(5)
    outcomes: list[Outcome] = [(Span(n, n + 1, 0, 0.9),) for n in range(5)]
    assert [ticket.record_outcome(slot, outcomes[slot]) for slot in order] == [False] * 4 + [True]
    ticket.resolve()
    assert ticket.future.result(0) == tuple(outcomes)


def test_a_dropped_window_drops_the_ticket() -> None:
    """Not before all others have ended; an empty or a failed outcome is an outcome."""
    ticket = Ticket(3)
    ticket.record_outcome(0, None)
    ticket.record_outcome(1, ())
    assert not ticket.future.done()
    assert ticket.record_outcome(2, Failed(DocumentErrorCode.INFERENCE_FAILED, "why"))
    ticket.resolve()
    with pytest.raises(Dropped):
        ticket.future.result(0)


def test_the_first_end_of_a_ticket_holds() -> None:
    """An error that comes later changes nothing, nor does an outcome after an error."""
    ticket = Ticket(1)
    ticket.fail(ValueError("first"))
    ticket.fail(ValueError("second"))
    ticket.record_outcome(0, ())
    ticket.resolve()
    with pytest.raises(ValueError, match="first"):
        ticket.future.result(0)
