"""Values that the worker's composition root derives from its settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.schema import DEFAULT_THRESHOLD
from tests.support.engine import SPEC
from worker.app import model_facts, spare_slots
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("setting", "models", "announced"),
    [(None, None, DEFAULT_THRESHOLD), (None, 0.3, 0.3), (0.0, 0.3, 0.0), (0.7, None, 0.7)],
)
def test_the_announced_threshold(setting: float | None, models: float | None, announced: float) -> None:
    """The setting, even if it is 0, goes before the model's own, and that before the service's."""
    settings = WorkerSettings(model_threshold=setting)
    assert model_facts(settings, replace(SPEC, default_threshold=models)).default_threshold == announced


def test_every_queue_has_a_spare_slot() -> None:
    """A shard of another tenant finds one free, with few slots too."""
    assert [spare_slots(slots) for slots in (1, 4, 8, 32)] == [1, 1, 2, 8]
