"""Models as the API shows them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.routes.models import ModelBody, list_models
from gateway.settings import GatewaySettings
from jobs.ledger import ModelFacts, ModelStats
from tests.support.fakes.routes import make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER

pytestmark = pytest.mark.anyio


def make_stats(name: str, workers: int = 0, facts: ModelFacts | None = None) -> ModelStats:
    """Return the statistics of a model."""
    return ModelStats(name, workers, 1, "rev" if workers else None, None, 2, 3, 4, 0.0, None, facts, ())


async def show_models(models: str, *stats: ModelStats, **settings: Any) -> list[ModelBody]:
    """Return the models of a service with these names."""
    services = make_services(
        settings=GatewaySettings(auth="off", models=models, **settings),  # type: ignore[arg-type]
        ledger=ScriptedLedger(read_stats=stats),
    )
    return (await list_models(services, CALLER)).data


async def test_the_first_model_is_the_default() -> None:
    """A model without workers is listed: its jobs wait."""
    first, second = await show_models("a,b", make_stats("a"), make_stats("b", workers=2))
    assert (first.name, first.default, first.available, first.limits) == ("a", True, False, None)
    assert (second.name, second.default, second.available, second.workers) == ("b", False, True, 2)


async def test_limits_are_those_that_its_workers_announced() -> None:
    """Labels are bounded by the service, not by the model."""
    facts = ModelFacts(384, 512, 12, 0.3)
    [body] = await show_models("a", make_stats("a", 1, facts), max_labels=25)
    assert body.limits is not None
    assert body.limits.model_dump() == {
        "words_per_window": 384, "tokens_per_row": 512, "words_per_entity": 12, "labels": 25,
    }  # fmt: skip
    assert body.default_threshold == 0.3


async def test_a_split_name_shows_the_model_of_the_caller() -> None:
    """A tenant stays with one; its jobs wait if that one has no workers."""
    [body] = await show_models("a=x:1|y:1", make_stats("x", 1), make_stats("y", 1))
    assert body.name == "a"
    assert body.model in ("x", "y")
    assert [(share.model, share.weight) for share in body.split] == [("x", 1), ("y", 1)]
