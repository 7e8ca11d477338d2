"""The gateway's models and limits."""

from __future__ import annotations

import json

from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway


def test_a_models_state_is_said(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """Ready, why not, or that jobs wait for a worker."""
    ready = {"name": "a", "available": True, "workers": 2, "default_threshold": 0.5, "revision": "r1"}
    ready["limits"] = {"words_per_window": 384}
    broken = {"name": "b", "available": False, "workers": 1, "reason": "cannot load"}
    gateway.answers["GET /v1/models"] = {"data": [ready, broken, {"name": "c", "available": False, "workers": 0}]}
    result = run_command("models")
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert rows[0] == ["a", "2", "r1", "0.5", "384", "ready"], result.stderr
    assert rows[1] == ["b", "1", "cannot", "load"]
    assert rows[2] == ["c", "0", "no", "worker", "now;", "jobs", "wait", "for", "one"]
    assert [json.loads(line)["name"] for line in run_command("models", "--json").stdout.splitlines()] == [*"abc"]


def test_limits_are_three_tables(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """Rates, what is open now, and sizes of a request; None is no limit."""
    kind = {"name": "submits", "measure": "submits", "scope": "key"}
    rate = {**kind, "limit": 9, "remaining": 8, "window_s": 1, "resets_in_s": 1}
    gateway.answers["GET /v1/limits"] = {
        "tenant": "t", "key_id": "k", "role": "admin", "rates": [rate],
        "open": {"jobs": 0, "stored_bytes": None}, "request": {"documents": 1000},
    }  # fmt: skip
    result = run_command("limits")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["submits", "8", "9", "1", "s", "1", "s"] in rows, result.stderr
    assert ["stored_bytes", "no", "limit"] in rows
    assert ["jobs", "0"] in rows
    assert ["documents", "1000"] in rows
    assert json.loads(run_command("limits", "--json").stdout)["rates"][0]["remaining"] == 8
