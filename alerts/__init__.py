"""Alerts and dashboards as code: SLOs and causes in, Prometheus rules, their tests and Grafana dashboards out.

`make alerts` writes `rules/`, `tests/` and `dashboards/`; a test fails while they and this code differ. `managed` writes
the rules in the formats of the clouds' Prometheus.
"""
