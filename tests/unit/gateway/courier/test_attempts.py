"""Attempts of deliveries: claimed, signed, sent, judged and recorded, whatever goes wrong."""

from __future__ import annotations

from threading import Event
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.courier import attempts
from gateway.courier.attempts import DeliveryPolicy, DeliveryRunner
from gateway.webhooks.endpoints import EndpointDetails, Secret
from gateway.webhooks.schedule import AttemptResult
from jobs.codec import Codec
from jobs.ledger import LedgerUnavailableError, associated_data
from jobs.ledger.outcomes import DeliveryOutcome
from jobs.ledger.webhooks import DeliveryClaim
from jobs.observability.metrics import WebhookMetrics
from tests.support.fakes.scripted_ledger import ScriptedThreadLedger

CODEC = Codec()
ACCEPTED = AttemptResult(204, 7)
DETAILS = EndpointDetails("https://example.com/hook", "", (Secret("whsec_" + "YWJj" * 8),))
EVENT = {
    "event": "job.succeeded", "job_id": "job_1", "status": "succeeded", "total": 1, "succeeded": 1, "failed": 0,
    "cancelled": 0, "expired": 0, "errors": {}, "finished": 1000, "results_expire_at": 2000,
}  # fmt: skip


class FakeSender:
    """Answers every attempt as the test says, and remembers what was sent."""

    def __init__(self, result: AttemptResult | Exception) -> None:
        self.result = result
        self.sent: list[tuple[str, str, dict[str, str], bytes]] = []

    def post(self, tenant: str, url: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        """Return the result."""
        self.sent.append((tenant, url, headers, body))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def make_claim(**fields: Any) -> DeliveryClaim:
    """Return a claimed delivery of a succeeded job."""
    values = {
        "now": 5_000, "endpoint": "ep_1", "job": "job_1", "event": "job.succeeded", "payload": orjson.dumps(EVENT),
        "sealed": DETAILS.seal(CODEC, "ep_1"), "created": 3_000, "tenant": "acme",
    }  # fmt: skip
    return DeliveryClaim(DeliveryOutcome.RUN, **(values | fields))


def make_runner(
    ledger: ScriptedThreadLedger, result: AttemptResult | Exception = ACCEPTED
) -> tuple[DeliveryRunner, FakeSender, CollectorRegistry]:
    """Return a runner on these fakes."""
    sender, registry = FakeSender(result), CollectorRegistry()
    runner = DeliveryRunner(
        ledger,
        CODEC,
        sender,  # type: ignore[arg-type]
        WebhookMetrics(registry),
        DeliveryPolicy(public_url="https://gleaner.example.com"),
        Event(),
    )
    return runner, sender, registry


def recorded(ledger: ScriptedThreadLedger) -> tuple[Any, ...]:
    """Return (outcome, delay in ms, error) of the attempt that was recorded."""
    [call] = [call for call in ledger.script.calls if call.script == "record_delivery"]
    outcome, delay_ms, facts = call.args[2:5]
    return outcome, delay_ms, orjson.loads(facts)["error"]


def test_a_delivery_is_signed_and_recorded() -> None:
    """The receiver gets the event with the id of the delivery; the delay since the job's end is measured."""
    ledger = ScriptedThreadLedger(claim_delivery=make_claim(), record_delivery=("delivered", ""))
    runner, sender, registry = make_runner(ledger)
    assert runner.deliver(["dlv_1"]) == {"delivered": 1}
    [(tenant, url, headers, body)] = sender.sent
    assert (tenant, url) == ("acme", "https://example.com/hook")
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("dlv_1", "5")
    assert orjson.loads(body)["data"]["results_url"].startswith("https://gleaner.example.com/v1/jobs/job_1")
    assert recorded(ledger) == ("delivered", 0, "")
    assert registry.get_sample_value("gleaner_webhook_first_attempt_delay_seconds_sum") == 2


def test_only_the_first_attempt_measures_the_delay() -> None:
    """Retries are late on purpose."""
    ledger = ScriptedThreadLedger(claim_delivery=make_claim(attempts=2), record_delivery=("delivered", ""))
    runner, _, registry = make_runner(ledger)
    runner.deliver(["dlv_1"])
    assert registry.get_sample_value("gleaner_webhook_first_attempt_delay_seconds_count") == 0


@pytest.mark.parametrize("kind", [kind for kind in DeliveryOutcome if kind is not DeliveryOutcome.RUN])
def test_a_claim_that_is_rejected_sends_nothing(kind: DeliveryOutcome) -> None:
    """A duplicate message costs one claim."""
    ledger = ScriptedThreadLedger(claim_delivery=DeliveryClaim(kind))
    runner, sender, _ = make_runner(ledger)
    assert runner.deliver(["dlv_1"]) == {kind: 1}
    assert sender.sent == []


def test_a_bug_is_recorded_as_a_failed_attempt() -> None:
    """Or the delivery would be claimed again and again without its schedule moving."""
    ledger = ScriptedThreadLedger(claim_delivery=make_claim(), record_delivery=("retry", ""))
    runner, _, registry = make_runner(ledger, ZeroDivisionError())
    assert runner.deliver(["dlv_1"]) == {"retry": 1}
    outcome, delay_ms, error = recorded(ledger)
    assert (outcome, error) == ("retry", "internal_error")
    assert delay_ms > 0
    assert registry.get_sample_value("gleaner_webhook_attempts_total", {"outcome": "retry"}) == 1


@pytest.mark.parametrize("fields", [{"sealed": b"damaged"}, {"meta": b"damaged"}])
def test_what_cannot_be_read_is_not_sent_and_tried_again(fields: dict[str, bytes]) -> None:
    """Another courier may have the key that this one lacks."""
    ledger = ScriptedThreadLedger(claim_delivery=make_claim(**fields), record_delivery=("retry", ""))
    runner, sender, _ = make_runner(ledger)
    runner.deliver(["dlv_1"])
    assert sender.sent == []
    assert recorded(ledger)[::2] == ("retry", "unreadable")


def test_metadata_and_response_are_decoded_and_sealed() -> None:
    """The response is stored for its delivery alone."""
    meta = CODEC.encode(b'{"batch":"42"}', associated_data("meta", "job_1"))
    ledger = ScriptedThreadLedger(claim_delivery=make_claim(meta=meta), record_delivery=("delivered", ""))
    runner, sender, _ = make_runner(ledger, AttemptResult(200, 7, body=b"thanks"))
    runner.deliver(["dlv_1"])
    assert orjson.loads(sender.sent[0][3])["data"]["metadata"] == {"batch": "42"}
    sealed = ledger.script.calls[-1].args[5]
    assert isinstance(sealed, bytes)
    assert CODEC.decode(sealed, associated_data("att", "dlv_1")) == b"thanks"


def test_an_outcome_is_recorded_once_redis_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the receiver would get the event twice."""
    monkeypatch.setattr("jobs.ledger.store.MIN_RETRY_S", 0.0)
    ledger = ScriptedThreadLedger(
        claim_delivery=make_claim(), record_delivery=[LedgerUnavailableError("down"), ("delivered", "")]
    )
    runner, sender, _ = make_runner(ledger)
    assert runner.deliver(["dlv_1"]) == {"delivered": 1}
    assert len(sender.sent) == 1


def test_the_first_delivery_of_a_message_is_made_and_the_rest_returned_at_the_end() -> None:
    """A courier that must stop leaves the others to the next one, at once."""
    ledger = ScriptedThreadLedger(
        claim_delivery=make_claim(), record_delivery=("delivered", ""), return_deliveries=None
    )
    runner, sender, _ = make_runner(ledger)
    runner.stopping.set()
    assert runner.deliver(["dlv_1", "dlv_2", "dlv_3"]) == {"delivered": 1, "returned": 2}
    assert ledger.script.calls[-1].args == ("dlv_2", "dlv_3")
    assert len(sender.sent) == 1


def test_a_slow_receiver_does_not_hold_a_whole_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of it is returned after a while, so that other threads can take it."""
    monkeypatch.setattr(attempts, "_MAX_MESSAGE_S", -1.0)
    ledger = ScriptedThreadLedger(
        claim_delivery=make_claim(), record_delivery=("delivered", ""), return_deliveries=None
    )
    runner, _, _ = make_runner(ledger)
    assert runner.deliver(["dlv_1", "dlv_2"]) == {"delivered": 1, "returned": 1}
