from __future__ import annotations

import re
import subprocess

import httpx
import pytest
import redis

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
        [child] = watched.house.of(role)
        text = child.probe("/metrics")[1] + "\n"
        found = subprocess.run(
            [str(tool("promtool")), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
        shown += text
    assert [name for name in DESIGN if f"# TYPE gleaner_{name} " not in shown] == []


@pytest.mark.timeout(180)
def test_labels_are_few_and_hold_no_word_of_a_user(watched: Watched) -> None:
    """No metric's labels grow with jobs, texts or entity labels."""
    for child in watched.house.children:
        text = child.probe("/metrics")[1]
        assert MARKER.split()[0] not in text
        assert LABEL not in text
        assert re.search(r"job_[0-9a-z]{10}", text) is None
        assert len(text.splitlines()) < 1500


@pytest.mark.timeout(180)
def test_the_queue_that_is_shown_is_the_ledgers(watched: Watched) -> None:
    """Open shards, characters and jobs agree with the ledger's own books while a backlog builds up and drains."""
    house = watched.house
    [courier] = house.of("courier")
    client: redis.Redis = house.server.client()
    texts = ["FAULTSLOW and some more"] * 3
    jobs = [watched.submit(texts * (n + 1)) for n in range(3)]

    def books() -> tuple[float, ...]:
        sums = client.hmget("{gleaner}:model:gleaner-small", "open_chars", "open_jobs")
        return (float(client.zcard("{gleaner}:open:gleaner-small")), *(float(value or 0) for value in sums))

    def shown() -> tuple[float, ...]:
        lines = dict(
            line.rsplit(" ", 1) for line in courier.probe("/metrics")[1].splitlines() if not line.startswith("#")
        )
        names = ("open_shards", "backlog_characters", "open_jobs")
        return tuple(float(lines[f'gleaner_{name}{{model="gleaner-small"}}']) for name in names)

    agreed, looks, open_seen = 0, 0, 0
    while True:
        before, found, after = books(), shown(), books()
        if before == after:  # nothing moved while we looked
            assert found == before
            agreed += 1
            open_seen += before[0] > 0
        looks += 1
        if after[0] == 0:
            break
    assert agreed > looks / 2
    assert open_seen > 0
    assert all(watched.ended(job) == "succeeded" for job in jobs)
    client.close()


def test_a_gateway_is_silent_about_the_queue_while_a_courier_speaks(watched: Watched) -> None:
    """The queue is shown once."""
    [gateway] = watched.house.of("gateway")
    assert "gleaner_open_shards" not in gateway.probe("/metrics")[1]
    assert httpx.get(f"{watched.url}/metrics", timeout=5, trust_env=False).status_code == 404


def test_names_are_given_in_one_file() -> None:
    """No other file of ours makes a metric."""
    makers = [
        path.name
        for package in ("gateway", "gleaner", "jobs", "worker")
        for path in (ROOT / package).rglob("*.py")
        if "import Counter" in (text := path.read_text()) and "from prometheus_client" in text
        if path.name != "metrics.py"
    ]
    assert [name for name in makers if name not in {"intake.py"}] == []
