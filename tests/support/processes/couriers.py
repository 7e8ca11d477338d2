"""Couriers as separate processes, and jobs that end so that there are webhooks to deliver.

`python -m tests.support.processes.couriers` is a courier with another schedule than production's: it comes in
through the composition root, from the JSON in TEST_RULES. Settings come from the environment, as ever.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Literal

import orjson

from gateway.courier.app import CourierSettings, run
from gateway.courier.attempts import DeliveryPolicy
from gateway.webhooks import signing
from gateway.webhooks.endpoints import EndpointDetails, Secret
from gateway.webhooks.schedule import Schedule
from jobs import ledger
from jobs.ledger import Ledger, webhooks
from jobs.ledger.webhooks import Endpoint
from tests.support.ledger import CODEC, new_job
from tests.support.processes.harness import Child, ServiceHarness

HERE = {"GLEANER_WEBHOOK_ALLOW": "127.0.0.0/8,::1/128", "GLEANER_WEBHOOK_ALLOW_HTTP": "true"}


def start_courier(harness: ServiceHarness, rules: dict[str, Any] | None = None, **settings: object) -> Child:
    """Start a courier that may call loopback, with rules (of `DeliveryPolicy` and `Schedule`)."""
    named = {f"GLEANER_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {**harness.by_socket(), **HERE, **named, "TEST_RULES": json.dumps(rules or {})}
    return harness.start("courier", "tests.support.processes.couriers", environment)


def add_endpoint(
    store: Ledger,
    name: str,
    url: str,
    *,
    tenant: str = "t1",
    events: Sequence[str] = (),
    every: bool = True,
    secret: str | None = None,
    lane: str | None = None,
    kind: Literal["url", "inline"] = "url",
) -> str:
    """Register an endpoint in the ledger, past the gateway; return its secret."""
    secret = secret or signing.new_secret()
    card = EndpointDetails(url, "", (Secret(secret),))
    sealed = card.seal(CODEC, name)
    record = Endpoint(name, tenant, 0, sealed, tuple(events), kind, every, lane or name, "active", created=0, now=0)
    assert store.run(webhooks.upsert_endpoint(record, most=10_000, ttl_ms=3_600_000)) == "ok"
    return secret


def end_job(store: Ledger, job: str, *, tenant: str = "t1", ok: bool = True, **more: Any) -> None:
    """Create a job of one document and finish it at once."""
    created = store.run(ledger.create_job(new_job(job, tenant=tenant, **more)))
    [message] = created.publish
    assert store.run(ledger.claim_shard(message, job, "w", "rev")).kind == "run"
    counts = (1, 0) if ok else (0, 1)
    errors = {} if ok else {"inference_failed": 1}
    assert (
        store.run(ledger.complete_shard(message, job, ledger.ShardResult(b"r", b"", *counts, {}, errors))).kind
        == "stored"
    )


def main() -> int:
    """Run a courier."""
    rules: dict[str, Any] = orjson.loads(os.environ["TEST_RULES"])
    delays, jitter = tuple(rules.pop("delays_s", Schedule().delays_s)), rules.pop("jitter", 0.2)
    return run(CourierSettings(), DeliveryPolicy(schedule=Schedule(delays, jitter), **rules))


if __name__ == "__main__":
    sys.exit(main())
