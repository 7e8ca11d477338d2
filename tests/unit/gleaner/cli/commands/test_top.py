"""`gleaner top`: metrics of processes become queues, rates and errors."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from gleaner.cli.app import app
from gleaner.cli.commands.top import Snapshot, compute_state, format_state, scrape_metrics

LEDGER = """
gleaner_store_up 1
gleaner_open_shards{model="a"} 5
gleaner_open_jobs{model="a"} 2
gleaner_backlog_seconds{model="a"} 7200
gleaner_oldest_open_seconds{model="a"} 119
gleaner_live_workers{model="a"} 1
gleaner_drain_characters_per_second{model="a"} 1000
gleaner_open_shards{model="b"} 0
gleaner_model_trouble{model="b"} 1
gleaner_tenant_stored_bytes{tenant="small"} 1000000
gleaner_tenant_stored_bytes{tenant="large"} 3000000
"""
WORKER = """
gleaner_documents_total{code="ok"} 8
gleaner_documents_total{code="empty_text"} 2
gleaner_http_requests_total{status="200"} 10
gleaner_http_requests_total{status="503"} 1
gleaner_webhook_attempts_total{outcome="failed"} 3
gleaner_worker_shards 2
gleaner_worker_slots 4
"""


def scrape(pages: dict[str, str | None]) -> Snapshot:
    """Read the metrics of processes by host; None does not respond."""

    def answer(request: httpx.Request) -> httpx.Response:
        page = pages[request.url.host]
        return httpx.Response(500) if page is None else httpx.Response(200, text=page)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        return scrape_metrics(client, [f"http://{host}/metrics" for host in pages])


def test_processes_are_summed_and_the_ledgers_metrics_are_not() -> None:
    """Every courier reports the same ledger; a process that is silent is named."""
    snapshot = scrape({"one": LEDGER + WORKER, "two": LEDGER + WORKER, "three": None})
    assert snapshot.sum_samples("gleaner_open_shards", model="a") == 5
    assert snapshot.sum_samples("gleaner_documents_total") == 20
    assert snapshot.sum_by_label("gleaner_documents_total", "code") == {"ok": 16, "empty_text": 4}
    assert snapshot.silent == ("http://three/metrics",)


def test_rates_are_differences_and_never_negative() -> None:
    """A process that was restarted counts from zero."""
    name = "gleaner_documents_total"
    before = Snapshot(10.0, {name: {frozenset({("code", "ok")}): 4.0}})
    after = Snapshot(12.0, {name: {frozenset({("code", "ok")}): 10.0}})
    rates = {rate.what: rate for rate in compute_state(before, after).rates}
    assert (rates["documents"].per_s, rates["documents"].total) == (3.0, 10)
    assert {rate.per_s for rate in compute_state(after, before).rates} == {0.0}


def test_a_state_is_computed_from_the_last_snapshot() -> None:
    """Queues in order of name, tenants by size, and only errors that occurred."""
    snapshot = scrape({"one": LEDGER + WORKER})
    state = compute_state(snapshot, snapshot)
    first, second = state.queues
    assert (first.model, first.open_shards, first.workers, first.trouble) == ("a", 5, 1, False)
    assert (second.model, second.trouble) == ("b", True)
    assert (state.store, state.shards_held, state.slots) == ("up", 2, 4)
    assert list(state.stored.items()) == [("large", 3_000_000), ("small", 1_000_000)]
    assert state.errors == {"document empty_text": 2, "HTTP 503": 1, "webhooks given up": 3}


@pytest.mark.parametrize(
    ("page", "store", "line"),
    [
        ("gleaner_store_up 1", "up", "errors since start: none"),
        ("gleaner_store_up 0", "down", "Redis does not respond"),
        ("", "unknown", "no courier responds: the queues are unknown"),
    ],
)
def test_trouble_with_redis_is_said(page: str, store: str, line: str) -> None:
    """Without a courier it is not known."""
    snapshot = scrape({"one": page})
    state = compute_state(snapshot, snapshot)
    console = Console(width=120, record=True, quiet=False, file=None)
    with console.capture() as shown:
        console.print(format_state(state))
    assert (state.store, line in shown.get()) == (store, True)


def test_a_state_is_shown_with_units() -> None:
    """Durations by their size, megabytes by tenant, models that cannot load."""
    snapshot = scrape({"one": LEDGER + WORKER, "two": None})
    console = Console(width=140)
    with console.capture() as shown:
        console.print(format_state(compute_state(snapshot, snapshot)))
    rows = [line.split() for line in shown.get().splitlines()]
    assert ["a", "5", "2", "2.0", "h", "119", "s", "1", "1000"] in rows
    assert ["b", "(cannot", "load)", "0", "0", "0", "s", "0", "s", "0", "0"] in rows
    assert "stored in Redis by tenant: large 3.0 MB, small 1.0 MB" in shown.get()
    assert "no response from http://two/metrics" in shown.get()


def test_without_a_stack_the_option_is_named(tmp_path: Path) -> None:
    """And processes that are named are asked, even if none responds."""
    result = CliRunner().invoke(app, ["top", "--data-dir", str(tmp_path)])
    assert (result.exit_code, "--metrics" in result.stderr) == (2, True)
    words = ["top", "--metrics", "http://127.0.0.1:9/metrics", "--json", "--every", "0.2"]
    state = json.loads(CliRunner().invoke(app, words).stdout)
    assert (state["store"], state["silent"]) == ("unknown", ["http://127.0.0.1:9/metrics"])
