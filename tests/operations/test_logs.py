from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobs.observability import logs
from jobs.settings import Settings
from tests.conftest import ROOT
from tests.operations.conftest import LABEL, WEBHOOKS
from tests.support.engine import FaultWord
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.servers.receivers import receiving

TEXT = "Xylophonist Brambleworth"
KEY = "gl_notarealkey_0123456789abcdef"  # pragma: allowlist secret
FIELDS = {"timestamp", "level", "logger", "event", "service", "request_id", "trace_id", "job_id", "shard"}


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Capture this process's log; restore logging afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    previous = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    monkeypatch.setattr(sys, "stdout", stream)
    logs.configure_logging(Settings(), "test")
    yield stream
    root.handlers[:], root.level = previous[0], previous[1]
    sys.excepthook, threading.excepthook, sys.unraisablehook = previous[2:]
    logging.captureWarnings(False)


def records(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the log records."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_record_has_the_same_fields(output: io.StringIO) -> None:
    """Context is bound for a block and gone after it."""
    log = logging.getLogger("worker.test")
    with logs.bind_fields(job_id="job_1", shard=3, request_id="r", trace_id="t"):
        log.info("shard.completed", extra={"documents": 2})
    log.info("after")
    first, second = records(output)
    assert set(first) >= FIELDS
    assert (first["job_id"], first["shard"], first["documents"]) == ("job_1", 3, 2)
    assert (second["job_id"], second["request_id"]) == (None, None)


def test_cloud_logging_reads_the_level(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the format `google` it is `severity`; all else stays."""
    monkeypatch.setattr(sys, "stdout", output)
    logs.configure_logging(Settings(log_format="google"), "test")
    logging.getLogger("worker.test").error("worker.hung")
    [record] = records(output)
    assert record["severity"] == "ERROR"
    assert set(record) == FIELDS - {"level"} | {"severity"}


@pytest.mark.parametrize("name", ["worker.test", "celery.app.trace", "uvicorn.error", "asyncio", "tornado.general"])
def test_an_exceptions_message_is_never_written(output: io.StringIO, name: str) -> None:
    """Class and place are, whoever logs it and however: as exc_info, as an argument, in Celery's own mapping."""
    log = logging.getLogger(name)
    try:
        raise ValueError(TEXT)
    except ValueError as error:
        log.exception("it.failed")
        log.error("it failed: %s\n%s", error, "Traceback: " + TEXT) if name not in ("worker.test",) else None
        context = {"exc": repr(error), "name": "t", "id": "1", "traceback": TEXT, "args": [TEXT], "kwargs": {}}
        if name == "celery.app.trace":
            log.error(
                "Task %(name)s[%(id)s] raised unexpected: %(exc)s\n%(traceback)s", context, extra={"data": context}
            )
    assert TEXT not in output.getvalue()
    assert records(output)[0]["error"] == "ValueError"
    assert "test_logs.py" in str(records(output)[0]["where"])


def test_an_uncaught_exception_is_logged_without_its_message(
    output: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    """A thread that dies, and a process that does."""

    def dies() -> None:
        raise RuntimeError(TEXT)

    thread = threading.Thread(target=dies, name="doomed")
    thread.start()
    thread.join()
    [record] = records(output)
    assert (record["event"], record["error"], record["in_thread"]) == ("thread.failed", "RuntimeError", "doomed")
    code = (
        "from jobs.observability import logs\nfrom jobs.settings import Settings\n"
        f"logs.configure_logging(Settings(), 'x')\nraise KeyError('{TEXT}')"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["error"] == "KeyError"
    assert TEXT not in ended.stdout + ended.stderr + "".join(capfd.readouterr())


def test_a_log_file_is_rotated_by_size(tmp_path: Path, output: io.StringIO) -> None:
    """With a log file set, it never exceeds its size, and the set number of old files is kept."""
    path = tmp_path / "gleaner.log"
    logs.configure_logging(Settings(log_file=str(path), log_file_bytes=2000, log_file_backups=2), "test")
    for number in range(60):
        logging.getLogger("worker.test").info("event", extra={"number": number})
    [handler] = logging.getLogger().handlers
    handler.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["gleaner.log", "gleaner.log.1", "gleaner.log.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert output.getvalue() == ""


@pytest.mark.timeout(180)
def test_no_process_ever_writes_a_text_a_label_or_a_key() -> None:
    """Marker texts through every path, errors of the model and broken requests included; then every log is read.

    Every line of every process is one JSON object of one shape: ours, Uvicorn's and Celery's.
    """
    harness = ServiceHarness()
    harness.settings |= WEBHOOKS
    try:
        with receiving() as receiver:
            gateway = harness.gateway(GLEANER_LOG_LEVEL="DEBUG")
            for child in (gateway, harness.worker(), harness.courier()):
                child.wait_ready()
            with httpx.Client(base_url=gateway.url, timeout=40, trust_env=False) as client:
                _every_path(client, receiver.url("/500"))
            for child in harness.of("worker"):
                wait_for(lambda child=child: "shard.completed" in child.log.read_text(), 20, "it worked")  # type: ignore[misc]
            for child in harness.children:
                child.drain()
        logs = {child.role: child.log.read_text() for child in harness.children}
    finally:
        harness.close()
    for role, text in logs.items():
        for secret in (*TEXT.split(), LABEL, KEY, "secret text of a document"):
            assert secret not in text, (role, secret)
        for line in text.splitlines():
            assert line.startswith("{"), (role, line)
            assert set(json.loads(line)) >= FIELDS, line
    assert "http.request" in logs["gateway"]
    assert "microbatch.window_failed" in logs["worker"]
    assert "delivery.attempted" in logs["courier"]


def _every_path(client: httpx.Client, hook: str) -> None:
    texts = [
        f"{TEXT} {fault}"
        for fault in (FaultWord.error, FaultWord.collate_error, FaultWord.decode_error, FaultWord.out_of_memory)
    ]
    documents = [{"text": text} for text in [TEXT, *texts, " ", TEXT * 3000]]
    job = {"labels": [LABEL], "documents": documents, "metadata": {"k": TEXT}, "webhook": {"url": hook}}
    keyed = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": TEXT.replace(" ", "-")}
    response = client.post("/v1/jobs", json=job, headers=keyed)
    assert response.status_code == 202, response.text
    where = f"/v1/jobs/{response.json()['id']}"
    assert client.get(f"{where}?wait=20").json()["status"] == "partially_succeeded"
    for path in (f"{where}/results", f"{where}/results?cursor={TEXT}", f"/v1/{TEXT}", f"{where}?wait={TEXT}"):
        client.get(path, headers={"X-Request-ID": TEXT})
    for body in (TEXT, json.dumps({TEXT: TEXT}), json.dumps({**job, "model": TEXT}), '{"documents": ["' + TEXT):
        answer = client.post(
            "/v1/jobs", content=body, headers={"Content-Type": "application/json", "X-API-Key": KEY}
        )
        assert 400 <= answer.status_code < 500
    assert client.post("/v1/extract", json={"labels": [LABEL], "documents": [{"text": TEXT}]}).status_code == 200
    client.post(f"{where}/retry", headers=keyed)
    client.delete(where)
