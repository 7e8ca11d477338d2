"""Panels and dashboards, and the queries that many panels share."""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard.

    Attributes:
        queries: expression -> legend.
        help: what a change of it means.
        elsewhere: only some deployments have its metrics (GPUs, Kubernetes).
        single: one large number instead of lines.
        limit: value from which it is shown as bad; None has no such value.
    """

    title: str
    unit: str
    queries: dict[str, str]
    help: str
    elsewhere: bool = False
    single: bool = False
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def query_quantiles(metric: str, by: str = "", where: str = "") -> dict[str, str]:
    """Return the median and the 95th percentile of a histogram."""
    grouped = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return {
        f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket{where}{INTERVAL})))": (
            f"p{round(q * 100)}{legend}"
        )
        for q in (0.5, 0.95)
    }


def query_rate(metric: str, by: str) -> dict[str, str]:
    """Return a counter's rate per second, by labels."""
    legend = " ".join(f"{{{{{name}}}}}" for name in by.split(", "))
    return {f"sum by ({by}) (rate({metric}{INTERVAL}))": legend}


def query_models(metric: str) -> dict[str, str]:
    """Return a gauge of the ledger, per model."""
    return {f"max by (model) ({metric})": "{{model}}"}
