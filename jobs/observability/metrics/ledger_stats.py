"""Metrics of the ledger, read when /metrics is scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.ledger.stats import LedgerStats, ModelStats
from jobs.naming import model_slug

_MODEL_GAUGES: tuple[tuple[str, str, Callable[[ModelStats], float]], ...] = (
    ("gleaner_open_shards", "Shards not finished: waiting, published or running.", lambda model: model.open_shards),
    ("gleaner_open_jobs", "Jobs not finished.", lambda model: model.open_jobs),
    (
        "gleaner_backlog_characters",
        "Characters of unfinished shards, counted once per pass that their labels need.",
        lambda model: model.open_characters,
    ),
    (
        "gleaner_backlog_seconds",
        "Duration of the backlog at the measured rate; the oldest job's age if no rate was measured.",
        lambda model: model.backlog_s,
    ),
    ("gleaner_oldest_open_seconds", "Age of the oldest unfinished job.", lambda model: model.oldest_s or 0),
    (
        "gleaner_drain_characters_per_second",
        "Characters per second that workers finish.",
        lambda model: model.drain_rate,
    ),
    ("gleaner_live_workers", "Live workers as recorded in the ledger.", lambda model: model.workers),
    ("gleaner_model_trouble", "1 while workers of the model cannot start.", lambda model: model.reason is not None),
)


class LedgerStatsCollector(Collector):
    """Reads the ledger's statistics at each scrape, so that they are never older than it.

    Args:
        read: reads the statistics, one call to the ledger.
        is_active: False while another process shows them (a gateway does only while it stands in for couriers).
    """

    def __init__(self, read: Callable[[], LedgerStats], is_active: Callable[[], bool] = lambda: True) -> None:
        self._read = read
        self._is_active = is_active

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not read the ledger."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the statistics, or `gleaner_store_up 0` alone."""
        if not self._is_active():
            return
        up = "gleaner_store_up", "1 if the ledger answered during this scrape."
        try:
            stats = self._read()
        except Exception:  # noqa: BLE001  # any failure is reported by this metric
            yield GaugeMetricFamily(*up, value=0)
            return
        yield GaugeMetricFamily(*up, value=1)
        for name, help_, value in (
            ("gleaner_store_memory_bytes", "Memory that the ledger's Redis uses.", stats.memory_used),
            ("gleaner_store_memory_limit_bytes", "Memory that it may use; 0 is no limit.", stats.memory_max),
            (
                "gleaner_store_durable",
                "1 if its append-only file is on and the last writes succeeded.",
                stats.durable,
            ),
            (
                "gleaner_store_replicas",
                "Replicas connected to the ledger's Redis; check it when a failover would lose jobs.",
                stats.replicas,
            ),
        ):
            yield GaugeMetricFamily(name, help_, value=int(value))
        yield _family(
            "gleaner_tenant_stored_bytes",
            "Bytes stored for a tenant, for the 20 tenants that store most; check it when memory is short.",
            ["tenant"],
            (([tenant], size) for tenant, size in stats.stored),
        )
        yield _family(
            "gleaner_model_slug_info",
            "1; `slug` is the model's name in Kubernetes, with which rules find its autoscaler.",
            ["model", "slug"],
            (([model.name, model_slug(model.name)], 1) for model in stats.models),
        )
        for name, help_, read_value in _MODEL_GAUGES:
            yield _family(name, help_, ["model"], [([m.name], float(read_value(m))) for m in stats.models])


def _family(
    name: str, help_: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
