from __future__ import annotations

import logging
import sys

import pytest

from jobs.observability.tracing import start_tracing
from jobs.settings import Settings


def test_a_missing_exporter_is_an_error_in_the_log_and_not_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the extra `otel` a process with GLEANER_TRACE_ENDPOINT starts, and its log says how to install it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    tracer = start_tracing(Settings(trace_endpoint="http://collector:4318"), "worker")
    assert not tracer.enabled
    with tracer.span("shard") as traceparent:
        assert traceparent == ""
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "tracing.not_installed"
    assert "gleaner-ner[otel]" in vars(record)["remedy"]
    assert vars(record)["missing"].startswith("opentelemetry")
