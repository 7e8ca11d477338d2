"""Parses and checks the webhook parts of requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.characters import character_error
from gateway.validation import Pointer, ValidationErrors
from gateway.webhooks import signing
from gateway.webhooks.payload import JOB_EVENTS

MAX_DESCRIPTION = 256
_MAX_ID_LENGTH = 64


@dataclass(frozen=True, slots=True)
class InlineWebhook:
    """A webhook for a single job."""

    url: str
    events: tuple[str, ...]
    secret: str | None


def parse_webhook(value: Any, errors: ValidationErrors) -> InlineWebhook | str | None:
    """Parse a job's `webhook`: an inline webhook, the id of an endpoint, or None."""
    if value is None:
        return None
    at: Pointer = ("webhook",)
    if not isinstance(value, dict):
        errors.add(at, "must be an object with `url` or `endpoint_id`")
        return None
    for name in value.keys() - {"url", "events", "secret", "endpoint_id"}:
        errors.add((*at, name), "is not a known field")
    named = value.get("endpoint_id")
    if named is not None:
        if not isinstance(named, str) or not 1 <= len(named) <= _MAX_ID_LENGTH or character_error(named):
            errors.add((*at, "endpoint_id"), "must be the id of an endpoint")
        if any(value.get(name) is not None for name in ("url", "events", "secret")):
            errors.add(at, "`endpoint_id` cannot be combined with other fields")
        return named if isinstance(named, str) else None
    url = value.get("url")
    if not isinstance(url, str):
        errors.add((*at, "url"), "is required and must be a string")
        url = ""
    elif error := character_error(url):
        errors.add((*at, "url"), error)
    return InlineWebhook(
        url, parse_events(value.get("events"), (*at, "events"), errors), parse_secret(value, at, errors)
    )


def parse_events(value: Any, at: Pointer, errors: ValidationErrors) -> tuple[str, ...]:
    """Parse a list of events; an empty tuple means all."""
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        errors.add(at, "must be a list of events, or absent for all")
        return ()
    names = tuple(dict.fromkeys(name if isinstance(name, str) else "" for name in value))
    for index, name in enumerate(names):
        if name not in JOB_EVENTS:
            errors.add((*at, index), f"must be one of {', '.join(JOB_EVENTS)}")
    return names


def parse_secret(value: dict[str, Any], at: Pointer, errors: ValidationErrors) -> str | None:
    """Parse the client's own secret; None if absent."""
    secret = value.get("secret")
    if secret is None:
        return None
    error = signing.find_secret_fault(secret) if isinstance(secret, str) else "must be a string"
    if error:
        errors.add((*at, "secret"), error)
        return None
    return str(secret)
