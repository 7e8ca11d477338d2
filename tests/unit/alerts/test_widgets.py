"""Queries that many panels share."""

from __future__ import annotations

from alerts.widgets import query_models, query_quantiles, query_rate


def test_quantiles_of_a_histogram() -> None:
    """Two quantiles, over everything or per label."""
    plain = query_quantiles("gleaner_s", where='{stage="cut"}')
    by_model = query_quantiles("gleaner_s", by="model")

    assert list(plain.values()) == ["p50", "p95"]
    assert next(iter(plain)) == (
        'histogram_quantile(0.5, sum by (le) (rate(gleaner_s_bucket{stage="cut"}[$__rate_interval])))'
    )
    assert list(by_model.values()) == ["p50 {{model}}", "p95 {{model}}"]
    assert all("sum by (le, model)" in expr for expr in by_model)


def test_rates_and_gauges() -> None:
    """The legend has every label that the query is by."""
    assert query_rate("gleaner_x_total", "route, status") == {
        "sum by (route, status) (rate(gleaner_x_total[$__rate_interval]))": "{{route}} {{status}}"
    }
    assert query_models("gleaner_open_jobs") == {"max by (model) (gleaner_open_jobs)": "{{model}}"}
