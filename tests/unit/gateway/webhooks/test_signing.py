"""Signatures and payloads, held against the Standard Webhooks library."""

from __future__ import annotations

import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.webhooks import payload, signing

FROZEN = {
    "event": "job.partially_succeeded",
    "job_id": "job_1",
    "status": "partially_succeeded",
    "finished": 1772366400123,
    "results_expire_at": 1772452800123,
    "total": 3,
    "succeeded": 2,
    "failed": 1,
    "cancelled": 0,
    "expired": 0,
    "errors": [{"code": "empty_text", "count": 1}],
}


def test_the_standard_library_accepts_our_headers() -> None:
    """The receivers' own library verifies our signature, and rejects another secret or body."""
    secret, body = signing.new_secret(), payload.build_job_event(json.dumps(FROZEN).encode(), {"a": "\u00e9"}, "")
    headers = signing.sign_headers("dlv_1", int(time.time()), body, [secret])
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    for wrong, content in ((signing.new_secret(), body), (secret, body + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong).verify(content, headers)


def test_during_a_rotation_either_secret_verifies() -> None:
    """Two signatures in one header; the receiver may change its secret any time within the overlap."""
    old, new = signing.new_secret(), signing.new_secret()
    headers = signing.sign_headers("dlv_1", int(time.time()), b"{}", [new, old])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(b"{}", headers) == {}


@pytest.mark.parametrize("secret", ["", "x", "whsec_", "whsec_abc", "whsec_" + "A" * 120, "whsec_!!!!", "AAAA" * 8])
def test_weak_or_foreign_secrets_are_refused(secret: str) -> None:
    """A given secret is `whsec_` and 24 to 64 bytes in base64."""
    assert signing.find_secret_fault(secret)


def test_good_secrets_pass() -> None:
    """Ours, and the smallest."""
    assert signing.find_secret_fault(signing.new_secret()) is None
    assert signing.find_secret_fault("whsec_" + "A" * 32) is None  # pragma: allowlist secret


def test_the_payload() -> None:
    """Thin: ids, counts and times; no text, no entity, no label."""
    body = json.loads(
        payload.build_job_event(json.dumps(FROZEN).encode(), {"batch": "42"}, "https://gleaner.example.com/")
    )
    assert body == {
        "type": "job.partially_succeeded",
        "timestamp": "2026-03-01T12:00:00.123Z",
        "data": {
            "job_id": "job_1",
            "status": "partially_succeeded",
            "counts": {
                "total": 3,
                "queued": 0,
                "running": 0,
                "succeeded": 2,
                "failed": 1,
                "cancelled": 0,
                "expired": 0,
            },
            "error_summary": [{"code": "empty_text", "count": 1}],
            "results_url": "https://gleaner.example.com/v1/jobs/job_1/results",
            "results_expire_at": "2026-03-02T12:00:00.123Z",
            "metadata": {"batch": "42"},
        },
    }


def test_no_errors_is_an_empty_list() -> None:
    """Lua writes an empty list as an empty object."""
    body = json.loads(payload.build_job_event(json.dumps({**FROZEN, "errors": {}}).encode(), {}, ""))
    assert body["data"]["error_summary"] == []
    assert body["data"]["results_url"] == "/v1/jobs/job_1/results"
