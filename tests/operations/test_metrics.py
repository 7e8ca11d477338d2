from __future__ import annotations

import re
import subprocess

import httpx
import pytest

from tests.conftest import ROOT, Tool
from tests.operations.conftest import LABEL, MARKER, Watched

DESIGN = (
    *("http_requests_total", "http_request_seconds", "jobs_total", "documents_total", "queue_wait_seconds"),
    *("job_seconds", "stage_seconds", "microbatch_windows", "microbatch_tokens_total", "open_shards"),
    *("backlog_characters", "backlog_seconds", "oldest_open_seconds", "leases_lost_total", "republished_total"),
    *("oom_total", "model_ready", "model_load_seconds", "entities_total", "windowed_documents_total"),
    *("truncated_documents_total", "webhook_attempts_total", "webhook_endpoints_disabled"),
)


@pytest.mark.timeout(180)
def test_names_units_and_help_are_in_order(watched: Watched, tool: Tool) -> None:
    """Promtool finds nothing to say about any process's metrics, and every promised one is there."""
    shown = ""
    for role in ("gateway", "worker", "courier"):
        [child] = watched.harness.of(role)
        text = child.probe("/metrics")[1] + "\n"
        checked = subprocess.run(
            [str(tool("promtool")), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        shown += text
    assert [name for name in DESIGN if f"# TYPE gleaner_{name} " not in shown] == []


@pytest.mark.timeout(180)
def test_labels_are_few_and_hold_no_word_of_a_user(watched: Watched) -> None:
    """No metric's labels grow with jobs, texts or entity labels."""
    for child in watched.harness.children:
        text = child.probe("/metrics")[1]
        assert MARKER.split()[0] not in text
        assert LABEL not in text
        assert re.search(r"job_[0-9a-z]{10}", text) is None
        assert len(text.splitlines()) < 1500


def test_a_gateway_is_silent_about_the_queue_while_a_courier_speaks(watched: Watched) -> None:
    """The queue is shown once."""
    [gateway] = watched.harness.of("gateway")
    assert "gleaner_open_shards" not in gateway.probe("/metrics")[1]
    assert httpx.get(f"{watched.url}/metrics", timeout=5, trust_env=False).status_code == 404


def test_names_are_given_in_one_file() -> None:
    """All metrics are defined in jobs/observability/metrics.py."""
    makers = [
        path.name
        for package in ("gateway", "gleaner", "jobs", "worker")
        for path in (ROOT / package).rglob("*.py")
        if "import Counter" in (text := path.read_text()) and "from prometheus_client" in text
        if path.name != "metrics.py"
    ]
    assert makers == []
