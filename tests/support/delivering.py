"""A courier's work done in the test's own process: no queue between the ledger and the attempts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import redis
from prometheus_client import CollectorRegistry

from gateway.courier.attempts import DeliveryPolicy, DeliveryRunner
from gateway.webhooks.sender import make_sender
from gateway.webhooks.settings import WebhookSettings
from jobs.codec import Codec
from jobs.ledger import Ledger, webhooks
from jobs.observability.metrics import WebhookMetrics


class Hands:
    """Delivers the due webhooks one after the other when a test calls it."""

    def __init__(self, client: redis.Redis, rules: DeliveryPolicy, codec: Codec, **settings: Any) -> None:
        self.client = client
        settings = {"webhook_allow": ("127.0.0.0/8",), **settings}
        local = WebhookSettings(webhook_allow_http=True, webhook_timeout_s=5.0, **settings)
        self.store = Ledger(client)
        self.deliverer = DeliveryRunner(
            self.store, codec, make_sender(local), WebhookMetrics(CollectorRegistry()), rules, Event()
        )
        self.rules = rules

    def deliver_due(self) -> dict[str, int]:
        """Everything that is due now; outcomes and how many came out so."""
        outcomes: dict[str, int] = {}
        while messages := self.store.run(webhooks.take_due_deliveries(100, self.rules.cap)).messages:
            for message in messages:
                for outcome, count in self.deliverer.deliver(message).items():
                    outcomes[outcome] = outcomes.get(outcome, 0) + count
        return outcomes

    def due_now(self, delivery: str) -> None:
        """Lets the time pass until a delivery's next attempt."""
        seconds, micros = self.client.time()  # type: ignore[misc]
        now = int(seconds) * 1000 + int(micros) // 1000
        ep = self.client.hget(f"{{gleaner}}:dlv:{delivery}", "ep").decode()  # type: ignore[union-attr]
        self.client.hset(f"{{gleaner}}:dlv:{delivery}", "next", now)
        self.client.zadd(f"{{gleaner}}:due:{ep}", {delivery: now})
        self.client.zadd("{gleaner}:eps", {ep: now})


@contextmanager
def hands(
    url: str, rules: DeliveryPolicy | None = None, codec: Codec | None = None, **settings: Any
) -> Iterator[Hands]:
    """Hands on a ledger; they may call loopback unless the settings say otherwise."""
    with redis.Redis.from_url(url) as client:
        yield Hands(client, rules or DeliveryPolicy(), codec or Codec(), **settings)
