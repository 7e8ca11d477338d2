"""`python -m gateway`: serves the API, with metrics and probes on a second port."""

from __future__ import annotations

import logging
import sys

from prometheus_client import CollectorRegistry

from gateway.http.background_services import run_background_services
from gateway.settings import GatewaySettings
from jobs.api_keys import KeysError
from jobs.observability import logs
from jobs.observability.metrics import GatewayMetrics, UpkeepMetrics, register_process_metrics
from jobs.process.cpu import cpu_count

log = logging.getLogger(__name__)


def main() -> int:
    """Serve until SIGTERM or SIGINT; return 0 after a clean stop."""
    settings = GatewaySettings()
    logs.configure_logging(settings, "gateway")
    count = settings.gateway_processes or cpu_count(settings.cpus)
    if count == 1:
        return _serve_in_process(settings)
    from gateway.http import processes  # and not the app, which its children load

    return processes.run(settings, count)


def _serve_in_process(settings: GatewaySettings) -> int:
    from gateway.app import create_app
    from gateway.http.server import Server

    registry = CollectorRegistry()
    register_process_metrics(registry)
    metrics = GatewayMetrics(registry)
    try:
        server = Server(settings, create_app(settings, metrics))
    except KeysError as error:
        log.error("gateway.no_keys", extra={"reason": str(error)})
        return 1
    with run_background_services(
        settings, registry, UpkeepMetrics(registry, metrics.jobs), server.stall_reason, server.is_serving
    ):
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
