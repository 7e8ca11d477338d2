"""What a gateway does once, however many processes serve it: the second port, and standing in for couriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from gateway.settings import GatewaySettings
from jobs import ledger
from jobs.ledger import Ledger, LedgerUnavailableError
from jobs.ledger.stats import read_stats
from jobs.observability.metrics import LedgerStatsCollector, UpkeepMetrics
from jobs.observability.probes import Check, ProbeServer
from jobs.redis.clients import connect
from jobs.upkeep import Upkeep, UpkeepLoop

STAND_BY_S = 30.0
"""No courier has ticked for so long: this gateway does upkeep until one is back."""
STALLED_S = 30.0
"""An event loop that stood still for so long will not come back."""


@contextmanager
def run_background_services(
    settings: GatewaySettings,
    registry: CollectorRegistry,
    upkeep: UpkeepMetrics,
    alive: Check,
    serves: Callable[[], bool],
) -> Iterator[None]:
    """Answer on the second port, and do upkeep while no courier does, until the block ends.

    Args:
        settings: read once by the caller.
        registry: what /metrics shows; the queue is added to it.
        upkeep: where upkeep counts.
        alive: why the gateway should be started anew, or None.
        serves: whether the API is served.

    Raises:
        OSError: the second port is taken.
    """
    stand_by = _stand_by(settings, upkeep)
    counting = Ledger(connect(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-metrics"))
    registry.register(
        LedgerStatsCollector(
            lambda: counting.run(read_stats(settings.models.served)), is_active=stand_by.is_ticking
        )
    )
    probes = ProbeServer(settings.metrics_host, settings.metrics_port, registry, alive, _ready(settings, serves))
    probes.start()
    stand_by.start()
    try:
        yield
    finally:
        stand_by.stop()
        probes.stop()


def _ready(settings: GatewaySettings, serves: Callable[[], bool]) -> Check:
    store = Ledger(connect(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-probes"))

    def ready() -> str | None:
        if not serves():
            return "the API is not served"
        try:
            store.run(ledger.ping_write())
        except LedgerUnavailableError as error:
            return f"the job store cannot be written: {error}"
        return None

    return ready


def _stand_by(settings: GatewaySettings, metrics: UpkeepMetrics) -> UpkeepLoop:
    store = Ledger(connect(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-upkeep"))
    broker = connect(settings.broker_url, settings.store_timeout_s, "gleaner-gateway-upkeep-push")
    return UpkeepLoop(Upkeep(store, broker, metrics, lease_s=settings.lease_s), silent_s=STAND_BY_S)
