"""Alerts on causes: what is wrong, and where to look, before or while a promise breaks. A file here is a rule file."""

from __future__ import annotations

from alerts.causes import api, escalation, quality, queue, scaling, store, webhooks, workers

GROUPS = tuple(module.GROUP for module in (queue, workers, store, api, webhooks, quality, scaling, escalation))
