"""The backlog of a model, and when it will be done."""

from __future__ import annotations

import pytest

from gateway.routes.queue import _build_body
from jobs.ledger import ModelStats
from jobs.ledger.stats import QueueStats
from jobs.schema import Priority


def make_stats(characters: int, rate: float) -> ModelStats:
    """Return a model with this many open characters, done at this rate."""
    queues = (QueueStats(Priority.STANDARD, 3, 2, 1),)
    return ModelStats("m", 1, 4, "rev", None, 2, 3, characters, rate, 1.5, None, queues)


@pytest.mark.parametrize(
    ("characters", "rate", "eta_s"), [(0, 0.0, 0.0), (0, 10.0, 0.0), (105, 10.0, 10.5), (105, 0.0, None)]
)
def test_the_eta_is_known_if_there_is_no_work_or_a_speed(characters: int, rate: float, eta_s: float | None) -> None:
    """Before the first measurement nobody knows."""
    body = _build_body(make_stats(characters, rate))
    assert (body.eta_s, body.characters_per_s) == (eta_s, rate or None)


def test_each_queue_is_shown() -> None:
    """Open jobs, those that wait for a worker, and their messages."""
    [queue] = _build_body(make_stats(0, 0)).queues
    assert queue.model_dump() == {
        "priority": Priority.STANDARD, "open_jobs": 3, "queued_jobs": 2, "published_shards": 1,
    }  # fmt: skip
