"""Alerts on the ledger's Redis: its volume's case and the labels of an installation."""

from __future__ import annotations

import pytest

from alerts.causes.store import GROUP
from alerts.model import Alert

ALERTS = {alert.name: alert for alert in GROUP.alerts}


@pytest.mark.parametrize("alert", GROUP.alerts, ids=lambda alert: alert.name)
def test_installations_do_not_hide_each_other(alert: Alert) -> None:
    """Every alert is by cluster and namespace, for the platform team, and no consequence of an outage."""
    assert "by (cluster, namespace" in alert.expr
    severity = "ticket" if alert.name == "GleanerReplicaMissing" else "page"  # a missing replica loses nothing yet
    assert (alert.severity, alert.team, alert.of_store) == (severity, "platform", False)


def test_a_volume_fills_up() -> None:
    """15 of 100 bytes free fire with the volume's name, 30 do not; both are in a namespace with our metric."""
    alert = ALERTS["GleanerLedgerVolumeFilling"]
    fires, quiet = ([*case.series.values()] for case in (alert.fires, alert.quiet))

    assert fires == ["15x20", "100x20", "1x20"]
    assert quiet == ["30x20", "100x20", "1x20"]
    assert "15% of data-gleaner-valkey-0 is free" in alert.expected_annotations(alert.fires)["description"]
    assert alert.expr.endswith("present_over_time(gleaner_store_up[1h])")
