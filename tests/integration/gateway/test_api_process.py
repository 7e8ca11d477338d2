"""`python -m gateway` as a process: starts, serves real sockets, drains, and says why it cannot start."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from jobs import api_keys
from jobs.ledger import job_channel
from tests.support.processes.gateways import launch
from tests.support.processes.harness import Child, wait_for

BODY = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}


@pytest.fixture
def settings(ledger_url: str, broker_url: str) -> dict[str, str]:
    """Return the URLs of this test's databases."""
    return {"GLEANER_REDIS_URL": ledger_url, "GLEANER_BROKER_URL": broker_url, "GLEANER_MAX_BODY_BYTES": "100000"}


@pytest.fixture
def gateway(tmp_path: Path, settings: dict[str, str]) -> Iterator[Child]:
    """Run a gateway."""
    api_keys.create_key(tmp_path / "keys.json", tenant="acme", role="admin")
    child = launch(tmp_path, settings)
    try:
        yield child.wait_ready()
    finally:
        child.kill()


@pytest.fixture
def client(tmp_path: Path, gateway: Child) -> Iterator[httpx.Client]:
    """Return a client with a key that the running gateway has not seen before."""
    key = api_keys.create_key(tmp_path / "keys.json", tenant="acme", role="submitter").key
    with httpx.Client(base_url=gateway.url, headers={"X-API-Key": key}, trust_env=False, timeout=60) as caller:
        wait_for(lambda: caller.get("/v1/models").status_code == 200, 3, "the new key is known")
        yield caller


def test_sigterm_answers_those_that_wait_and_exits_0(gateway: Child, client: httpx.Client, ledger_url: str) -> None:
    """A rolling update costs a long-poll its wait, never its answer."""
    job = client.post("/v1/jobs", json=BODY).json()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(client.get, f"/v1/jobs/{job['id']}", params={"wait": 60})
        with redis.Redis.from_url(ledger_url) as store:
            wait_for(lambda: store.pubsub_numsub(job_channel(job["id"]))[0][1] == 1, 5, "the long-poll is there")
        gateway.send(signal.SIGTERM)

        assert gateway.process.wait(10) == 0
        assert (poll.result().status_code, poll.result().json()["status"]) == (200, "queued")


def test_sigterm_ends_event_streams(gateway: Child, client: httpx.Client) -> None:
    """Cleanly, so that a client connects again, elsewhere, with the last event's id."""
    job = client.post("/v1/jobs", json=BODY).json()
    with client.stream("GET", job["urls"]["events"]) as events:
        lines = events.iter_lines()
        seen = [next(lines) for _ in range(5)]
        gateway.send(signal.SIGTERM)
        rest = list(lines)

    assert events.headers["content-type"].startswith("text/event-stream")
    assert [line.partition(":")[0] for line in seen] == ["retry", "", "id", "event", "data"]
    assert json.loads(seen[4].removeprefix("data: "))["id"] == job["id"]
    assert rest == [""]
    assert gateway.process.wait(10) == 0


def test_the_second_port_tells_how_it_is(gateway: Child) -> None:
    """Metrics with route templates, alive, ready."""
    httpx.get(f"{gateway.url}/nothing", trust_env=False)

    assert gateway.probe("/livez") == (200, "ok")
    assert gateway.probe("/readyz") == (200, "ok")
    status, text = gateway.probe("/metrics")
    assert status == 200
    assert 'gleaner_http_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_what_is_accepted_is_counted(gateway: Child, client: httpx.Client) -> None:
    """By jobs and by documents: an alert looks at whether any still come."""
    client.post("/v1/jobs", json={**BODY, "documents": [{"text": "Ada"}, {"text": "Bob"}]})
    lines = '{"labels":["Ada"]}\n{"text":"Ada"}\n'
    client.post("/v1/jobs", content=lines, headers={"Content-Type": "application/x-ndjson"})
    client.post("/v1/jobs", json={})

    text = gateway.probe("/metrics")[1]
    assert "gleaner_submitted_jobs_total 2.0" in text
    assert "gleaner_submitted_documents_total 3.0" in text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_gets_its_answer(client: httpx.Client, chunked: bool) -> None:
    """413 and not a reset connection, though the client was still sending."""
    body = b" " * 5_000_000
    content = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
    response = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})

    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


def test_half_a_request_makes_no_job(gateway: Child, client: httpx.Client) -> None:
    """A client that dies while it sends leaves nothing behind, and the gateway goes on."""
    key = client.headers["X-API-Key"]
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as raw:
        raw.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b'{"labels":')
    wait_for(lambda: 'status="499"' in gateway.probe("/metrics")[1], 5, "the disconnect is counted")

    assert client.get("/v1/models").json()["data"][0]["open_jobs"] == 0
    assert "Traceback" not in gateway.tail(100)


def test_results_stream_over_a_real_socket(client: httpx.Client) -> None:
    """Chunked, and properly ended."""
    job = client.post("/v1/jobs", json=BODY).json()["id"]
    client.post(f"/v1/jobs/{job}/cancel")
    with client.stream("GET", f"/v1/jobs/{job}/results", headers={"Accept": "application/x-ndjson"}) as response:
        lines = [json.loads(line) for line in response.iter_lines()]

    assert response.headers["transfer-encoding"] == "chunked"
    assert [line["status"] for line in lines] == ["cancelled"]


def test_the_log_is_json_lines_without_paths_or_ids_of_requests(gateway: Child, client: httpx.Client) -> None:
    """Route templates; the query, which may hold anything, is never written."""
    client.get("/v1/models", params={"x": "MARKER"})

    log = gateway.log.read_text()
    assert "MARKER" not in log
    events = [json.loads(line) for line in log.splitlines()]
    assert any(event["event"] == "http.request" and event["route"] == "/v1/models" for event in events)


def test_a_missing_keys_file_is_said_and_ends_the_process(tmp_path: Path, settings: dict[str, str]) -> None:
    """A missing keys file ends the process with a clear line, exit code 1 and no traceback."""
    child = launch(tmp_path, settings)

    assert child.process.wait(20) == 1
    (line,) = child.log.read_text().splitlines()
    assert json.loads(line)["event"] == "gateway.no_keys"
    assert "keys.json" in json.loads(line)["reason"]
