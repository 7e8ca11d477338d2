"""Burn-rate alerts of an SLO: recordings, thresholds and the generated cases."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from alerts.slo import SLOS, WINDOWS, Slo, build_group

SLO = Slo("x", "X", 0.99, "99 % are good.", "bad[{w}]", "total[{w}]", "ml", "api", ("gleaner_bad", "gleaner_good"))


def test_a_ratio_is_recorded_for_every_window() -> None:
    """A window without a bad event has the ratio 0, not none; events are counted per hour."""
    recordings = build_group(SLO).recordings

    assert list(recordings) == [f"gleaner:x:error_ratio_{window}" for window in WINDOWS] + ["gleaner:x:events_1h"]
    assert recordings["gleaner:x:error_ratio_5m"] == "(bad[5m] or 0 * total[5m]) / (total[5m])"
    assert recordings["gleaner:x:events_1h"] == "(total[1h]) * 3600"


@pytest.mark.parametrize(
    ("position", "severity", "pairs"),
    [
        (0, "page", [("5m", "1h", 0.144), ("30m", "6h", 0.06)]),
        (1, "ticket", [("2h", "1d", 0.03), ("6h", "3d", 0.01)]),
    ],
)
def test_an_alert_needs_a_long_and_a_short_window(
    position: int, severity: str, pairs: list[tuple[str, str, float]]
) -> None:
    """Thresholds are the burn rate times the budget, here 1 %; a few events are no alert."""
    alert = build_group(SLO).alerts[position]
    windows = re.findall(r"ratio_(\w+) > (\S+) and \S+ratio_(\w+) > ([\d.]+)", alert.expr)

    assert alert.severity == severity
    assert [(short, long, float(low)) for short, low, long, high in windows if low == high] == pairs
    assert alert.expr.endswith("and gleaner:x:events_1h > 20")
    assert alert.more == {"slo": "x"}


def test_the_cases_have_half_of_the_events_bad_or_none() -> None:
    """Bad and good events are apart; of a histogram they are all events and those in time."""
    fast = build_group(SLO).alerts[0]
    latency = build_group(replace(SLO, series=("gleaner_job_seconds_count", "gleaner_job_seconds_bucket"))).alerts[
        0
    ]

    assert list(fast.fires.series.values()) == ["0+10x90", "0+10x90"]
    assert list(fast.quiet.series.values()) == ["0+0x90", "0+20x90"]
    assert list(latency.fires.series.values()) == ["0+20x90", "0+10x90"]
    assert list(latency.quiet.series.values()) == ["0+20x90", "0+20x90"]


@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_objectives_are_complete(slo: Slo) -> None:
    """Both expressions have a window, and the promise names the objective."""
    assert "{w}" in slo.bad
    assert "{w}" in slo.total
    assert f"{100 * slo.objective:g} %" in slo.promise
    assert slo.budget == pytest.approx(1 - slo.objective)
