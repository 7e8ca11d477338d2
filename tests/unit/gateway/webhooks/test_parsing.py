"""The `webhook` of a job's body: an inline webhook or a registered one, and where it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.validation import ValidationErrors
from gateway.webhooks.parsing import InlineWebhook, parse_webhook
from gateway.webhooks.payload import JOB_EVENTS

URL = "https://hooks.example.com"


@pytest.mark.parametrize(
    ("value", "webhook"),
    [
        (None, None),
        ({"endpoint_id": "ep_1"}, "ep_1"),
        ({"endpoint_id": "ep_1", "url": None}, "ep_1"),
        ({"url": URL}, InlineWebhook(URL, (), None)),
        ({"url": URL, "events": [JOB_EVENTS[0]] * 2}, InlineWebhook(URL, (JOB_EVENTS[0],), None)),
    ],
)
def test_a_webhook_is_inline_or_registered(value: Any, webhook: InlineWebhook | str | None) -> None:
    """No events are all events, and an event counts once."""
    errors = ValidationErrors()
    assert (parse_webhook(value, errors), errors.pop_all()) == (webhook, [])


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (URL, "/webhook"),
        ({}, "/webhook/url"),
        ({"url": URL, "more": 1}, "/webhook/more"),
        ({"endpoint_id": ""}, "/webhook/endpoint_id"),
        ({"endpoint_id": "e" * 65}, "/webhook/endpoint_id"),
        ({"endpoint_id": "ep_1", "url": URL}, "/webhook"),
        ({"url": URL, "events": []}, "/webhook/events"),
        ({"url": URL, "events": [JOB_EVENTS[0], "job.exploded"]}, "/webhook/events/1"),
        ({"url": URL, "secret": 1}, "/webhook/secret"),
        ({"url": URL, "secret": "weak"}, "/webhook/secret"),  # pragma: allowlist secret
    ],
)
def test_an_error_is_located(value: Any, pointer: str) -> None:
    """The client learns which field to correct, and only that one."""
    errors = ValidationErrors()
    parse_webhook(value, errors)
    assert [where for where, _ in errors.pop_all()] == [pointer]
