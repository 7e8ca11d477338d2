from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import ROOT
from tests.operations.conftest import LABEL, MARKER
from tests.support.processes import House, wait_for
from tests.support.receivers import Receiver, receiving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret


def spans(collector: Receiver) -> dict[str, list[Span]]:
    """What the collector has received, by name."""
    found = defaultdict(list)
    for request in collector.at("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found[span.name].append(span)
    return found


@pytest.fixture
def house() -> Iterator[House]:
    """A server and nothing else yet."""
    made = House()
    yield made
    made.close()


@pytest.mark.timeout(120)
def test_one_trace_leads_from_the_request_to_the_micro_batch(house: House) -> None:
    """`traceparent` in -> submit -> every shard, and a micro-batch is linked to its shards; no text anywhere."""
    with receiving() as collector:
        house.settings["GLEANER_TRACE_ENDPOINT"] = collector.url("")
        gateway, worker, _ = house.gateway().wait_ready(), house.worker().wait_ready(), house.courier()
        job = {"labels": [LABEL], "documents": [{"text": f"{MARKER} met Ada FAULTERROR"}, {"text": MARKER}]}
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        answer = httpx.post(f"{gateway.url}/v1/extract", json=job, headers=headers, timeout=40, trust_env=False)
        assert answer.status_code == 200
        wait_for(lambda: {"submit", "shard", "microbatch"} <= set(spans(collector)), 20, "all spans")
        assert worker.drain() == 0
        found = spans(collector)
        [submit], [shard] = found["submit"], found["shard"]
        assert submit.trace_id.hex() == shard.trace_id.hex() == TRACE
        assert submit.parent_span_id.hex() == "00f067aa0ba902b7"
        assert shard.parent_span_id == submit.span_id
        assert any(link.span_id == shard.span_id for batch in found["microbatch"] for link in batch.links)
        assert f'"trace_id": "00-{TRACE}-{shard.span_id.hex()}-01"' in worker.log.read_text()
        everything = b"".join(request.body for request in collector.at("/v1/traces"))
    for secret in (*MARKER.split(), LABEL, "secret text"):
        assert secret.encode() not in everything


def test_off_costs_nothing() -> None:
    """Without an endpoint nothing is imported, and the caller's context is handed on."""
    code = (
        "import sys\nimport redis\nfrom jobs import tracing\nfrom jobs.settings import Settings\n"
        "before = set(sys.modules)\n"
        "with tracing.start(Settings(), 'x').span('a', 'parent') as given: assert given == 'parent'\n"
        "assert set(sys.modules) == before, set(sys.modules) - before"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
