"""Turns what a client says about webhooks into checked values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.submission.characters import character_error
from gateway.submission.validation import Pointer, ValidationErrors
from gateway.webhooks import signing
from gateway.webhooks.payload import JOB_EVENTS

MAX_DESCRIPTION = 256
_ENDPOINT_LENGTH = 64


@dataclass(frozen=True, slots=True)
class InlineWebhook:
    """A receiver of one job's end."""

    url: str
    events: tuple[str, ...]
    secret: str | None


def parse_webhook(given: Any, errors: ValidationErrors) -> InlineWebhook | str | None:
    """A job's `webhook`: a receiver of its own, the id of an endpoint, or None."""
    if given is None:
        return None
    at: Pointer = ("webhook",)
    if not isinstance(given, dict):
        errors.add(at, "must be an object with `url` or `endpoint_id`")
        return None
    for name in given.keys() - {"url", "events", "secret", "endpoint_id"}:
        errors.add((*at, name), "is not a known field")
    named = given.get("endpoint_id")
    if named is not None:
        if not isinstance(named, str) or not 1 <= len(named) <= _ENDPOINT_LENGTH or character_error(named):
            errors.add((*at, "endpoint_id"), "must be the id of an endpoint")
        if any(given.get(name) is not None for name in ("url", "events", "secret")):
            errors.add(at, "with `endpoint_id` nothing else is said here")
        return named if isinstance(named, str) else None
    url = given.get("url")
    if not isinstance(url, str):
        errors.add((*at, "url"), "is required, a string")
        url = ""
    elif error := character_error(url):
        errors.add((*at, "url"), error)
    return InlineWebhook(
        url, parse_events(given.get("events"), (*at, "events"), errors), parse_secret(given, at, errors)
    )


def parse_events(given: Any, at: Pointer, errors: ValidationErrors) -> tuple[str, ...]:
    """The events that are asked for; none means all."""
    if given is None:
        return ()
    if not isinstance(given, list) or not given:
        errors.add(at, "must be a list of events, or absent for all")
        return ()
    return tuple(_event(name, (*at, place), errors) for place, name in enumerate(dict.fromkeys(map(_plain, given))))


def parse_secret(given: dict[str, Any], at: Pointer, errors: ValidationErrors) -> str | None:
    """The secret that was brought along, or None."""
    secret = given.get("secret")
    if secret is None:
        return None
    error = signing.find_secret_fault(secret) if isinstance(secret, str) else "must be a string"
    if error:
        errors.add((*at, "secret"), error)
        return None
    return str(secret)


def _plain(item: Any) -> str:
    return item if isinstance(item, str) else ""


def _event(name: str, at: Pointer, errors: ValidationErrors, known: Sequence[str] = JOB_EVENTS) -> str:
    if name not in known:
        errors.add(at, f"must be one of {', '.join(known)}")
    return name
