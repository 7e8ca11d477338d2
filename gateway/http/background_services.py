"""The services that run once per gateway, however many processes serve it: the second port, and stand-by upkeep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from gateway.http.readiness import LedgerCheck
from gateway.settings import GatewaySettings
from jobs import ledger
from jobs.ledger import Ledger, LedgerUnavailableError
from jobs.observability.metrics import LedgerStatsCollector, UpkeepMetrics
from jobs.observability.probes import Check, ProbeServer
from jobs.redis.clients import connect
from jobs.upkeep import Upkeep, UpkeepLoop

STAND_BY_S = 30.0
"""After this long without a courier's tick, the gateway does upkeep until a courier is back."""
STALLED_S = 30.0
"""After this long an event loop that stands still counts as stuck."""


@contextmanager
def run_background_services(
    settings: GatewaySettings,
    registry: CollectorRegistry,
    upkeep: UpkeepMetrics,
    alive: Check,
    is_serving: Callable[[], bool],
) -> Iterator[None]:
    """Answer on the second port, and do upkeep while no courier does, until the block ends.

    Args:
        settings: read once by the caller.
        registry: metrics of /metrics; the queue's are added to it.
        upkeep: metrics of upkeep.
        alive: returns the reason to restart the gateway, or None.
        is_serving: returns whether the API is served.

    Raises:
        OSError: the second port is taken.
    """
    stand_by = _make_stand_by_upkeep(settings, upkeep)
    counting = Ledger(connect(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-metrics"))
    registry.register(
        LedgerStatsCollector(
            lambda: counting.run(ledger.read_stats(settings.models.served)), is_active=stand_by.is_ticking
        )
    )
    probes = ProbeServer(
        settings.metrics_host, settings.metrics_port, registry, alive, _make_readiness_check(settings, is_serving)
    )
    probes.start()
    stand_by.start()
    try:
        yield
    finally:
        stand_by.stop()
        probes.stop()


def _make_readiness_check(settings: GatewaySettings, is_serving: Callable[[], bool]) -> Check:
    check = LedgerCheck.connect(settings.redis_url, settings.store_timeout_s)

    def find_unreadiness() -> str | None:
        if not is_serving():
            return "the API is not served"
        try:
            check.run()
        except LedgerUnavailableError as error:
            return f"Redis cannot be written: {error}"
        return None

    return find_unreadiness


def _make_stand_by_upkeep(settings: GatewaySettings, metrics: UpkeepMetrics) -> UpkeepLoop:
    store = Ledger(connect(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-upkeep"))
    broker = connect(settings.broker_url, settings.store_timeout_s, "gleaner-gateway-upkeep-push")
    return UpkeepLoop(Upkeep(store, broker, metrics, lease_s=settings.lease_s), silent_s=STAND_BY_S)
