from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.conftest import ROOT
from tests.operations.conftest import LABEL, MARKER, WEBHOOKS
from tests.support.processes.harness import Child, ServiceHarness, wait_for
from tests.support.servers.receivers import Receiver, receiving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret
KEY = "gl_notarealkey_0123456789abcdef"  # pragma: allowlist secret
HOOK = "/500/hook?token=quetzal"


def spans(collector: Receiver) -> dict[str, list[Span]]:
    """Return the spans that the collector has received, by name."""
    by_name = defaultdict(list)
    for request in collector.at("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    by_name[span.name].append(span)
    return by_name


def events(child: Child, event: str) -> list[dict[str, object]]:
    """Return a process's records of an event, of which there must be at least one."""
    records = map(json.loads, child.log.read_text().splitlines())
    matching = [record for record in records if record["event"] == event]
    assert matching, (child.role, event)
    return matching


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Start Redis alone."""
    running = ServiceHarness()
    yield running
    running.close()


@pytest.mark.timeout(120)
def test_one_trace_leads_from_the_request_to_the_webhook(harness: ServiceHarness) -> None:
    """`traceparent` in -> submit -> every shard, linked from its micro-batch -> each attempt -> the receiver.

    No text, label, key, metadata or URL is in any span.
    """
    harness.settings |= WEBHOOKS
    with receiving() as receiver:
        harness.settings["GLEANER_TRACE_ENDPOINT"] = receiver.url("")
        gateway, worker, courier = (harness.gateway(), harness.worker(), harness.courier())
        for child in (gateway, worker, courier):
            child.wait_ready()
        job = {
            "labels": [LABEL],
            "documents": [{"text": f"{MARKER} met Ada FAULTERROR"}, {"text": MARKER}],
            "metadata": {"of": MARKER},
            "webhook": {"url": receiver.url(HOOK)},
        }
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-API-Key": KEY}
        answer = httpx.post(f"{gateway.url}/v1/extract", json=job, headers=headers, timeout=40, trust_env=False)
        assert answer.status_code == 200
        delivered, *_ = receiver.wait(HOOK, 1)
        wait_for(lambda: {"submit", "shard", "microbatch", "webhook"} <= set(spans(receiver)), 20, "all spans")
        assert (worker.drain(), courier.drain()) == (0, 0)
        received = spans(receiver)
        everything = b"".join(request.body for request in receiver.at("/v1/traces"))
    [submit], [shard], [attempt, *_] = received["submit"], received["shard"], received["webhook"]
    assert {span.trace_id.hex() for span in (submit, shard, attempt)} == {TRACE}
    assert submit.parent_span_id.hex() == "00f067aa0ba902b7"
    assert shard.parent_span_id == attempt.parent_span_id == submit.span_id
    assert any(link.span_id == shard.span_id for batch in received["microbatch"] for link in batch.links)
    assert delivered.headers["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    facts = {fact.key: fact.value.string_value or fact.value.int_value for fact in attempt.attributes}
    assert (facts["attempt"], facts["status"], facts["delivery_id"]) == (1, 500, delivered.headers["webhook-id"])
    assert str(facts["endpoint_id"]).startswith("ep_")
    assert attempt.kind == Span.SPAN_KIND_CLIENT
    assert (attempt.status.code, attempt.status.message) == (Status.STATUS_CODE_ERROR, "http_error")
    for log, event in ((gateway, "job.created"), (worker, "shard.completed"), (courier, "delivery.attempted")):
        assert {record["trace_id"] for record in events(log, event)} == {TRACE}
    for secret in (*MARKER.split(), LABEL, "secret text", HOOK, KEY):
        assert secret.encode() not in everything


@pytest.mark.timeout(120)
def test_without_tracing_the_callers_context_reaches_the_receiver_all_the_same(harness: ServiceHarness) -> None:
    """Whoever traces on both sides of us sees one trace; a job without a context sends none."""
    harness.settings |= WEBHOOKS
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    with receiving() as receiver:
        gateway = harness.gateway()
        for child in (gateway, harness.worker(), harness.courier()):
            child.wait_ready()
        job = {"labels": [LABEL], "documents": [{"text": "Ada"}]}
        for path, headers in (("/with", {"traceparent": traceparent}), ("/without", {})):
            body = {**job, "webhook": {"url": receiver.url(path)}}
            httpx.post(f"{gateway.url}/v1/extract", json=body, headers=headers, timeout=40, trust_env=False)
        [with_context], [without_context] = receiver.wait("/with", 1), receiver.wait("/without", 1)
    assert with_context.headers["traceparent"] == traceparent
    assert "traceparent" not in without_context.headers


def test_off_costs_nothing() -> None:
    """Without an endpoint nothing is imported, and the caller's context is handed on."""
    code = (
        "import sys\nimport redis\nfrom jobs.observability import tracing\nfrom jobs.settings import Settings\n"
        "before = set(sys.modules)\n"
        "with tracing.start_tracing(Settings(), 'x').span('a', 'parent') as given: assert given == 'parent'\n"
        "assert set(sys.modules) == before, set(sys.modules) - before"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
