"""The courier's composition root: the upkeep timer, the dispatcher, and the consumer of the webhooks queue."""

from __future__ import annotations

import logging
from threading import Event

from celery import Celery
from prometheus_client import CollectorRegistry
from pydantic import Field

from gateway.courier.attempts import LEASE_MARGIN_S, DeliveryPolicy, DeliveryRunner
from gateway.courier.dispatcher import Dispatcher
from gateway.webhooks.dns import Resolve
from gateway.webhooks.sender import make_sender
from gateway.webhooks.settings import WebhookSettings
from jobs import ledger, naming
from jobs.codec import make_codec
from jobs.ledger import Ledger
from jobs.observability import logs, tracing
from jobs.observability.metrics import LedgerStatsCollector, UpkeepMetrics, WebhookMetrics, register_process_metrics
from jobs.observability.probes import ProbeServer
from jobs.queue import celery_queues
from jobs.queue.consumer import process_name, run_consumer
from jobs.redis import clients
from jobs.upkeep import Upkeep, UpkeepLoop

log = logging.getLogger(__name__)

STALLED_S = 120.0
"""A timer that has not run for this long hangs; the process should be restarted."""


class CourierSettings(WebhookSettings):
    """The courier's own settings."""

    metrics_port: int = Field(9103, ge=0, le=65535, description="Port of /metrics, /livez and /readyz.")
    courier_slots: int = Field(16, ge=1, le=256, description="Webhook deliveries in progress at once.")
    webhook_per_receiver: int = Field(
        4,
        ge=1,
        le=64,
        description="Webhook deliveries in progress at once to one receiver of a tenant; one while it fails.",
    )
    upkeep_every_s: float = Field(1.0, gt=0, le=10, description="Seconds between two upkeep ticks.")
    upkeep_grace_s: float = Field(
        30.0, gt=0, description="Seconds a published shard may stay unclaimed before its message counts as lost."
    )


def run(settings: CourierSettings, policy: DeliveryPolicy | None = None, resolve: Resolve | None = None) -> int:
    """Run a courier until SIGTERM; return 0 after a clean drain.

    Args:
        settings: read once by the caller.
        policy: how deliveries are made; by default from the settings.
        resolve: resolves receivers' names; by default from the settings.
    """
    logs.configure_logging(settings, "courier")
    registry = CollectorRegistry()
    register_process_metrics(registry)
    consuming, draining = Event(), Event()
    upkeep = _make_upkeep(settings, registry)
    policy = policy or DeliveryPolicy(
        cap=settings.webhook_per_receiver,
        lease_s=settings.webhook_timeout_s + LEASE_MARGIN_S,
        public_url=settings.public_url,
    )
    dispatcher, runner = _make_webhook_runners(settings, registry, policy, resolve, draining)

    def find_stall() -> str | None:
        stalled = max(upkeep.stalled_s(), dispatcher.stalled_s())
        return f"a timer has not run for {stalled:.0f} s" if stalled > STALLED_S else None

    def find_unreadiness() -> str | None:
        if draining.is_set():
            return "draining"
        return upkeep.failure_reason() if consuming.is_set() else "not consuming yet"

    counting = Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-metrics"))
    registry.register(LedgerStatsCollector(lambda: counting.run(ledger.read_stats(settings.models.served))))
    probes = ProbeServer(settings.metrics_host, settings.metrics_port, registry, find_stall, find_unreadiness)
    probes.start()
    upkeep.start()
    dispatcher.start()
    app = celery_queues.build_celery_app(settings.broker_url, [naming.WEBHOOK_QUEUE], "courier")
    _register_task(app, runner, dispatcher)
    name = process_name("courier")

    def begin_drain() -> None:
        draining.set()
        dispatcher.request_stop()

    exit_code = run_consumer(app, name, settings.courier_slots, on_ready=consuming.set, on_stop=begin_drain)
    begin_drain()
    dispatcher.stop()
    upkeep.stop()
    probes.stop()
    return exit_code


def _make_upkeep(settings: CourierSettings, registry: CollectorRegistry) -> UpkeepLoop:
    upkeep = Upkeep(
        Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-upkeep")),
        clients.connect(settings.broker_url, settings.store_timeout_s, "gleaner-upkeep-push"),
        UpkeepMetrics(registry),
        lease_s=settings.lease_s,
        grace_s=settings.upkeep_grace_s,
    )
    return UpkeepLoop(upkeep, settings.upkeep_every_s)


def _make_webhook_runners(
    settings: CourierSettings,
    registry: CollectorRegistry,
    policy: DeliveryPolicy,
    resolve: Resolve | None,
    draining: Event,
) -> tuple[Dispatcher, DeliveryRunner]:
    metrics = WebhookMetrics(registry)
    dispatcher = Dispatcher(
        Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-dispatch")),
        clients.connect(settings.broker_url, settings.store_timeout_s, "gleaner-dispatch-push"),
        metrics,
        policy,
        settings.courier_slots,
    )
    runner = DeliveryRunner(
        Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-deliver")),
        make_codec(settings),
        make_sender(settings, resolve),
        metrics,
        policy,
        draining,
        tracing.start_tracing(settings, "courier"),
    )
    return dispatcher, runner


def _register_task(app: Celery, runner: DeliveryRunner, dispatcher: Dispatcher) -> None:
    @app.task(name=celery_queues.DELIVER_TASK)
    def deliver(*ids: str) -> dict[str, int]:
        try:
            return runner.deliver(ids)
        finally:
            dispatcher.wake()
