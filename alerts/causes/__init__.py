"""Alerts on causes: they name a fault before or while it breaks an SLO. Each module is a rule file."""

from __future__ import annotations

from alerts.causes import api, backup, quality, queue, scaling, store, webhooks, workers

GROUPS = tuple(module.GROUP for module in (queue, workers, store, backup, api, webhooks, quality, scaling))
