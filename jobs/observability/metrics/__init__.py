"""Every metric of every process: name, kind, unit, and help text that says what to do when it moves.

Each process creates its own set on its own registry; nothing registers itself on import.
"""

from jobs.observability.metrics.common import OTHER_LABEL
from jobs.observability.metrics.courier import UpkeepMetrics, WebhookMetrics
from jobs.observability.metrics.gateway import GatewayMetrics, ProcessesMetrics
from jobs.observability.metrics.ledger_stats import LedgerStatsCollector
from jobs.observability.metrics.process import register_process_metrics
from jobs.observability.metrics.worker import WorkerMetrics

__all__ = [
    "OTHER_LABEL",
    "GatewayMetrics",
    "LedgerStatsCollector",
    "ProcessesMetrics",
    "UpkeepMetrics",
    "WebhookMetrics",
    "WorkerMetrics",
    "register_process_metrics",
]
