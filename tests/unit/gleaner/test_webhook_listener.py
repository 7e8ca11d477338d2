"""A receiver on this machine: only signed events reach the caller."""

from __future__ import annotations

import json
import time

import httpx

from gateway.webhooks.signing import sign_headers
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret

SECRET = new_secret()


def post(listener: Listener, body: bytes, secret: str = SECRET) -> int:
    """Send a webhook as the courier does; return the status of the answer."""
    headers = sign_headers("dlv_1", int(time.time()), body, [secret])
    return httpx.post(listener.url, content=body, headers=headers, trust_env=False).status_code


def test_events_arrive_in_order() -> None:
    """And nothing when no more come."""
    with Listener(SECRET) as listener:
        for number in range(3):
            assert post(listener, json.dumps({"number": number}).encode()) == 204
        events = [listener.next(5) for _ in range(3)]
        assert listener.next(0.01) is None

    assert events == [{"number": number} for number in range(3)]


def test_others_are_refused() -> None:
    """Another secret, an unsigned request, a body that is no event, and one that is too large."""
    with Listener(SECRET) as listener:
        refused = [
            post(listener, b"{}", new_secret()),
            httpx.post(listener.url, content=b"{}", trust_env=False).status_code,
            post(listener, b"[1]"),
            post(listener, b" " * (1 << 20) + b"{}"),
        ]
        assert listener.next(0.01) is None

    assert refused == [401, 401, 401, 413]


def test_the_port_is_free_afterwards() -> None:
    """Another listener may take it at once."""
    with Listener(SECRET) as first:
        port = httpx.URL(first.url).port
    with Listener(SECRET, port=port or 0) as second:
        assert second.url == first.url
