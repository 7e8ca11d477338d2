"""The dispatcher: due deliveries are queued while the queue is short."""

from __future__ import annotations

from typing import Self

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.courier.attempts import DeliveryPolicy
from gateway.courier.dispatcher import Dispatcher
from jobs.ledger.webhooks import DueDeliveries
from jobs.observability.metrics import WebhookMetrics
from tests.support.fakes.scripted_ledger import ScriptedThreadLedger


class FakeBroker:
    """List of messages: as much of Redis as the dispatcher uses."""

    def __init__(self, waiting: int = 0) -> None:
        self.messages = [b""] * waiting

    def llen(self, key: str) -> int:
        """Return the number of messages."""
        assert key == "gleaner:q:gleaner.webhooks"
        return len(self.messages)

    def pipeline(self, *, transaction: bool) -> Self:
        """Return the broker itself: it has no round trips to save."""
        return self

    def lpush(self, key: str, message: bytes) -> None:
        """Add a message."""
        self.messages.append(message)

    def execute(self) -> None:
        """Do nothing: commands ran at once."""


def make_dispatcher(
    ledger: ScriptedThreadLedger, broker: FakeBroker, registry: CollectorRegistry | None = None
) -> Dispatcher:
    """Return a dispatcher of a courier with two slots."""
    metrics = WebhookMetrics(registry or CollectorRegistry())
    return Dispatcher(ledger, broker, metrics, DeliveryPolicy(cap=3), slots=2)  # type: ignore[arg-type]


def test_due_deliveries_are_queued() -> None:
    """Another round follows at once; disabled endpoints are shown as a metric."""
    due = DueDeliveries((("dlv_1", "dlv_2"), ("dlv_3",)), disabled=4, more=False)
    broker, registry = FakeBroker(), CollectorRegistry()
    assert make_dispatcher(ScriptedThreadLedger(take_due_deliveries=due), broker, registry).tick()
    arguments = [orjson.loads(orjson.loads(message)["body"])[0] for message in broker.messages]
    assert arguments == [["dlv_1", "dlv_2"], ["dlv_3"]]
    assert registry.get_sample_value("gleaner_webhook_endpoints_disabled") == 4


@pytest.mark.parametrize(("waiting", "free"), [(0, 8), (5, 3), (8, 0), (20, 0)])
def test_the_queue_is_kept_short(waiting: int, free: int) -> None:
    """It holds four messages for each slot at most; a full one only announces the courier."""
    ledger = ScriptedThreadLedger(take_due_deliveries=DueDeliveries((), 0, more=False))
    assert not make_dispatcher(ledger, FakeBroker(waiting)).tick()
    assert ledger.script.calls[0].args[:2] == (free, 3)


@pytest.mark.parametrize("more", [True, False])
def test_it_rests_when_nothing_is_due(more: bool) -> None:
    """The ledger says whether it examined everything."""
    ledger = ScriptedThreadLedger(take_due_deliveries=DueDeliveries((), 0, more=more))
    assert (make_dispatcher(ledger, FakeBroker())._run_round() == 0) is more


def test_a_restarted_courier_is_another_one() -> None:
    """It must not inherit the attempts of the process before it."""
    ledger = ScriptedThreadLedger(take_due_deliveries=DueDeliveries((), 0, more=False))
    for _ in range(2):
        make_dispatcher(ledger, FakeBroker()).tick()
    first, second = (call.args[4:] for call in ledger.script.calls)
    assert first[0] != second[0]
    assert first[1] == second[1] == 2
