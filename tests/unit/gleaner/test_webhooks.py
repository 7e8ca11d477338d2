"""`verify_webhook` and the listener, held against the Standard Webhooks library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks import Webhook

from gleaner import GleanerError, WebhookVerificationError, verify_webhook
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret

BODY = json.dumps({"type": "job.succeeded", "data": {"metadata": {"a": "\u00e9"}}}, ensure_ascii=False).encode()


def signed(secret: str, body: bytes = BODY, at: datetime | None = None, event: str = "dlv_1") -> dict[str, str]:
    """Headers that the library makes."""
    moment = at or datetime.now(UTC)
    signature = Webhook(secret).sign(event, moment, body.decode())
    return {
        "webhook-id": event,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }


def test_what_the_library_signs_is_accepted() -> None:
    """The body may be bytes or text, and headers' names upper or lower case."""
    secret = new_secret()
    headers = signed(secret)
    for body in (BODY, BODY.decode()):
        assert verify_webhook(body, headers, secret) == json.loads(BODY)
    assert verify_webhook(BODY, {name.title(): value for name, value in headers.items()}, secret)
    assert verify_webhook(BODY, httpx.Headers(headers), secret)


def test_during_a_rotation() -> None:
    """Either of two secrets fits either of two signatures; other versions of signatures are passed over."""
    old, new = new_secret(), new_secret()
    both = signed(new) | {"webhook-signature": f"v1a,xyz {signed(new)['webhook-signature']} v1,AAAA"}
    assert verify_webhook(BODY, both, [old, new])
    assert verify_webhook(BODY, both, new)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "dlv_2"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "99999999999"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\u00e9"},
        {"webhook-signature": "v2,AAAA"},
    ],
)
def test_what_was_tampered_with_is_refused(change: dict[str, str]) -> None:
    """Id, time and signature all count."""
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        verify_webhook(BODY, signed(secret) | change, secret)


def test_other_bodies_secrets_and_times_are_refused() -> None:
    """Also a good event that somebody sends again later, and one whose headers are missing."""
    secret = new_secret()
    headers = signed(secret)
    sent = int(headers["webhook-timestamp"])
    for body, sent_headers, key, now in (
        (BODY + b" ", headers, secret, sent),
        (BODY, headers, new_secret(), sent),
        (BODY, headers, secret, sent + 301),
        (BODY, headers, secret, sent - 301),
        (BODY, {}, secret, sent),
        (b"[]", signed(secret, b"[]"), secret, sent),
        (b"{", signed(secret, b"{"), secret, sent),
    ):
        with pytest.raises(WebhookVerificationError):
            verify_webhook(body, sent_headers, key, now=now)
    assert verify_webhook(BODY, headers, secret, now=sent + 299)
    assert issubclass(WebhookVerificationError, GleanerError)
    with pytest.raises(ValueError, match="base64"):
        verify_webhook(BODY, headers, "whsec_not base64")


@pytest.mark.parametrize("secret", ["", "whsec_", [], ["", new_secret()], [new_secret(), "whsec_"], "whsec_QUJD"])
def test_an_empty_or_short_secret_is_refused(secret: str | list[str]) -> None:
    """An unset variable must not let anybody sign, also where it is only one of two secrets."""
    forged = hmac.new(b"", b"dlv_1.1700000000." + BODY, hashlib.sha256).digest()
    headers = {
        "webhook-id": "dlv_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": f"v1,{base64.b64encode(forged).decode()}",
    }
    with pytest.raises(ValueError, match="secret"):
        verify_webhook(BODY, headers, secret, now=1700000000)


def test_headers_and_bodies_come_in_the_forms_of_servers() -> None:
    """Headers may be ASGI's pairs of bytes or lists of values, bodies views of bytes; parsed bodies are refused."""
    secret = new_secret()
    headers = signed(secret)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    lists = {name: [value] for name, value in headers.items()}
    for form in (pairs, lists, list(headers.items())):
        assert verify_webhook(memoryview(BODY), form, secret) == json.loads(BODY)  # type: ignore[arg-type]
    assert verify_webhook(bytearray(BODY), headers, secret)
    with pytest.raises(TypeError, match="not the parsed JSON"):
        verify_webhook(json.loads(BODY), headers, secret)
    with pytest.raises(TypeError, match="headers"):
        verify_webhook(BODY, 7, secret)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "1_700_000_000"},
        {"webhook-timestamp": " 1700000000"},
        {"webhook-timestamp": "\u0661\u0667"},
        {"webhook-signature": "v1,\udcff"},
        {"webhook-id": "\ud800"},
        {"Webhook-Id": "dlv_1"},
    ],
)
def test_odd_headers_are_refused_and_raise_nothing_else(change: dict[str, str]) -> None:
    """A stranger's request cannot raise another exception; a duplicate header is refused."""
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        verify_webhook(BODY, signed(secret) | change, secret)


def test_a_deeply_nested_event_is_refused() -> None:
    """Its signature may be good; it is no event."""
    secret, body = new_secret(), b"[" * 100_000
    with pytest.raises(WebhookVerificationError, match="not an event"):
        verify_webhook(body, signed(secret, body), secret)


def test_the_listener_takes_what_is_genuine_and_nothing_else() -> None:
    """204 and into the queue; 401 for a forgery, 413 for a body that is too long or of no length."""
    secret = new_secret()
    with Listener(secret) as listener, httpx.Client(trust_env=False) as client:
        assert client.post(listener.url, content=BODY, headers=signed(new_secret())).status_code == 401
        assert client.post(listener.url, content=BODY).status_code == 401
        assert client.post(listener.url, content=iter([b"x"])).status_code == 413
        assert client.post(listener.url, content=BODY, headers=signed(secret)).status_code == 204
        assert listener.next(5) == json.loads(BODY)
        assert listener.next(0.01) is None
