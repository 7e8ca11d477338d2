"""The courier's composition root: upkeep's timer, webhooks' timer, and the consumer of the webhooks queue."""

from __future__ import annotations

import logging
from threading import Event

from celery import Celery
from prometheus_client import CollectorRegistry
from pydantic import Field

from gateway.courier.attempts import DeliveryRunner, Rules
from gateway.courier.dispatcher import Dispatcher
from gateway.webhooks.dns import Resolve
from gateway.webhooks.sender_factory import make_sender
from gateway.webhooks.settings import WebhookSettings
from jobs import naming
from jobs.codec import make_codec
from jobs.ledger import Ledger
from jobs.ledger.stats import read_stats
from jobs.observability import logs, tracing
from jobs.observability.metrics import LedgerStatsCollector, UpkeepMetrics, WebhookMetrics, register_process_metrics
from jobs.observability.probes import ProbeServer
from jobs.queue import celery_queues
from jobs.queue.consumer import process_name, run_consumer
from jobs.redis import clients
from jobs.upkeep import Upkeep, UpkeepLoop

log = logging.getLogger(__name__)

STALLED_S = 120.0
"""A timer that does not come round for this long hangs; the process is to be started anew."""


class CourierSettings(WebhookSettings):
    """The courier's own settings."""

    metrics_port: int = Field(9103, ge=0, le=65535, description="Port of /metrics, /livez and /readyz.")
    courier_slots: int = Field(16, ge=1, le=256, description="Webhook deliveries under way at once.")
    webhook_per_receiver: int = Field(
        4,
        ge=1,
        le=64,
        description="Webhook deliveries under way at once to one receiver of a tenant; one while it fails.",
    )
    upkeep_every_s: float = Field(1.0, gt=0, le=10, description="Seconds between two upkeep ticks.")
    upkeep_grace_s: float = Field(
        30.0, gt=0, description="How long a published shard may stay unread before its message counts as lost."
    )


def rules(settings: CourierSettings) -> Rules:
    """How this courier delivers."""
    return Rules(
        cap=settings.webhook_per_receiver,
        lease_s=settings.webhook_timeout_s + 15,
        public_url=settings.public_url,
    )


def run(settings: CourierSettings, how: Rules | None = None, find: Resolve | None = None) -> int:
    """Be a courier until SIGTERM; the exit code is 0 after a clean drain.

    Args:
        settings: read once by the caller.
        how: how deliveries are made; None: as the settings say.
        find: looks receivers' names up; None: as the settings say.
    """
    logs.configure_logging(settings, "courier")
    registry = CollectorRegistry()
    register_process_metrics(registry)
    consuming, draining = Event(), Event()
    upkeep = _upkeep(settings, registry)
    dispatcher, deliverer = _webhooks(settings, registry, how or rules(settings), find, draining)

    def alive() -> str | None:
        stalled = max(upkeep.stalled_s(), dispatcher.stalled_s() if not draining.is_set() else 0.0)
        return f"a timer stands still for {stalled:.0f} s" if stalled > STALLED_S else None

    def ready() -> str | None:
        if draining.is_set():
            return "draining"
        return upkeep.failure_reason() if consuming.is_set() else "not consuming yet"

    counting = Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-metrics"))
    registry.register(LedgerStatsCollector(lambda: counting.run(read_stats(settings.models.served))))
    probes = ProbeServer(settings.metrics_host, settings.metrics_port, registry, alive, ready)
    probes.start()
    upkeep.start()
    dispatcher.start()
    app = celery_queues.build_celery_app(settings.broker_url, [naming.WEBHOOK_QUEUE], "courier")
    _register(app, deliverer, dispatcher)
    name = process_name("courier")
    exit_code = run_consumer(app, name, settings.courier_slots, on_ready=consuming.set, on_stop=draining.set)
    draining.set()
    dispatcher.join()
    upkeep.stop()
    probes.stop()
    return exit_code


def _upkeep(settings: CourierSettings, registry: CollectorRegistry) -> UpkeepLoop:
    upkeep = Upkeep(
        Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-upkeep")),
        clients.connect(settings.broker_url, settings.store_timeout_s, "gleaner-upkeep-push"),
        UpkeepMetrics(registry),
        lease_s=settings.lease_s,
        grace_s=settings.upkeep_grace_s,
    )
    return UpkeepLoop(upkeep, settings.upkeep_every_s)


def _webhooks(
    settings: CourierSettings, registry: CollectorRegistry, how: Rules, find: Resolve | None, draining: Event
) -> tuple[Dispatcher, DeliveryRunner]:
    metrics = WebhookMetrics(registry)
    dispatcher = Dispatcher(
        Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-dispatch")),
        clients.connect(settings.broker_url, settings.store_timeout_s, "gleaner-dispatch-push"),
        metrics,
        slots=settings.courier_slots,
        cap=how.cap,
        stopping=draining,
        again_s=how.again_s,
    )
    deliverer = DeliveryRunner(
        Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-deliver")),
        make_codec(settings),
        make_sender(settings, find),
        metrics,
        how,
        draining,
        tracing.start_tracing(settings, "courier"),
    )
    return dispatcher, deliverer


def _register(app: Celery, deliverer: DeliveryRunner, dispatcher: Dispatcher) -> None:
    @app.task(name=celery_queues.DELIVER_TASK)
    def deliver(*ids: str) -> dict[str, int]:
        try:
            return deliverer.deliver(ids)
        finally:
            dispatcher.nudge()
