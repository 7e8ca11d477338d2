"""A process holds messages of each queue up to its slots, and none in another queue's slots."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery.worker import state
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.consumer import has_free_slot

QUEUES = ("interactive", "standard", "webhooks")


@pytest.fixture(scope="module", autouse=True)
def nothing_held() -> Iterator[None]:
    """Celery's list of requests, empty before and after."""
    state.requests.clear()
    yield
    state.requests.clear()


@given(st.lists(st.sampled_from(QUEUES), max_size=24), st.integers(1, 8))
def test_a_queue_has_room_while_it_holds_less_than_its_slots(requests: list[str], slots: int) -> None:
    """Whatever is held of the others, and nothing is counted twice or forgotten."""
    state.requests.clear()
    for number, queue in enumerate(requests):
        state.requests[str(number)] = SimpleNamespace(delivery_info={"exchange": "", "routing_key": queue})
    assert {queue: has_free_slot(queue, slots) for queue in QUEUES} == {
        queue: requests.count(queue) < slots for queue in QUEUES
    }
