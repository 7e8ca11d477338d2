"""The courier's composition root: upkeep's timer, and the consumer of the webhooks queue.

Webhook deliveries come with their own tasks; until then the queue is empty and upkeep is what a courier is for.
"""

from __future__ import annotations

import logging
import sys
from threading import Event

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from pydantic import Field

from jobs import names, queues, stores, telemetry
from jobs.consumer import consume, process_name
from jobs.ledger import Ledger
from jobs.metrics import UpkeepMetrics
from jobs.probes import ProbeServer
from jobs.settings import Settings
from jobs.upkeep import Upkeep, UpkeepLoop

log = logging.getLogger(__name__)

STALLED_S = 120.0
"""A tick that takes longer than this hangs; the process is to be started anew."""


class CourierSettings(Settings):
    """The courier's own settings."""

    metrics_port: int = Field(9103, ge=0, le=65535, description="Port of /metrics, /livez and /readyz.")
    courier_slots: int = Field(16, ge=1, le=256, description="Webhook deliveries under way at once.")
    upkeep_every_s: float = Field(1.0, gt=0, le=10, description="Seconds between two upkeep ticks.")
    upkeep_grace_s: float = Field(
        30.0, gt=0, description="How long a published shard may stay unread before its message counts as lost."
    )


def run(settings: CourierSettings) -> int:
    """Be a courier until SIGTERM; the exit code is 0 after a clean drain."""
    telemetry.configure(settings, "courier")
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    upkeep = UpkeepLoop(
        Upkeep(
            Ledger(stores.connect(settings.redis_url, settings.store_timeout_s, "gleaner-upkeep")),
            stores.connect(settings.broker_url, settings.store_timeout_s, "gleaner-upkeep-push"),
            UpkeepMetrics(registry),
            lease_s=settings.lease_s,
            grace_s=settings.upkeep_grace_s,
        ),
        settings.upkeep_every_s,
    )
    consuming, draining = Event(), Event()

    def alive() -> str | None:
        stalled = upkeep.stalled_s()
        return f"upkeep stands still for {stalled:.0f} s" if stalled > STALLED_S else None

    def ready() -> str | None:
        if draining.is_set():
            return "draining"
        return upkeep.trouble() if consuming.is_set() else "not consuming yet"

    probes = ProbeServer(settings.metrics_host, settings.metrics_port, registry, alive, ready)
    probes.start()
    upkeep.start()
    app = queues.celery_app(settings.broker_url, [names.WEBHOOK_QUEUE], "courier")
    name = process_name("courier")
    exit_code = consume(app, name, settings.courier_slots, on_ready=consuming.set, on_stop=draining.set)
    upkeep.stop()
    probes.stop()
    return exit_code


if __name__ == "__main__":
    sys.exit(run(CourierSettings()))
