"""`gleaner preflight`, with kubectl's answers from a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gleaner.cli.app import app
from gleaner.cli.printing import Finding
from tests.unit.gleaner.cli.preflight.manifests import Json, make_deployment

RunPreflight = Callable[..., Result]

KUBECTL = """#!{python}
import json, sys
answers = json.load(open({answers!r}))
arguments = [item for item in sys.argv[1:] if not item.startswith("--request-timeout")]
if arguments[0] == "version":
    print(json.dumps({{"serverVersion": {{"gitVersion": "v1.36.2"}}}}))
elif arguments[1] == "nodes":
    sys.exit("Error from server (Forbidden): nodes is forbidden")
elif arguments[-1].startswith("go-template"):
    print(answers.get(arguments[1], ""))
else:
    print(json.dumps({{"items": answers.get(arguments[1], [])}}))
"""


@pytest.fixture
def preflight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPreflight:
    """Return a function that runs the command against manifests and a kubectl with given answers."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def run(manifests: list[Json], answers: Json, *options: str) -> Result:
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(KUBECTL.format(python=sys.executable, answers=str(tmp_path / "answers.json")))
        kubectl.chmod(0o755)
        command = ["preflight", "--manifest", "-", "-n", "ns", "--no-images", *options]
        result = CliRunner().invoke(app, command, input=yaml.safe_dump_all(manifests))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def test_the_command_reports_and_fails(preflight: RunPreflight) -> None:
    """Exit code 1 for a missing Secret; a kind that may not be listed is a warning; complete: 0."""
    manifests = [
        make_deployment(
            container={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
        )
    ]
    run = preflight(manifests, {})
    assert run.exit_code == 1, run.stderr
    assert "BAD  missing: Secret s in ns with the keys k, for Deployment worker" in run.stdout
    assert "nodes is forbidden" in run.stdout
    run = preflight(manifests, {"secret": "other\ns k other\n"}, "--json")
    assert run.exit_code == 0, run.stdout + run.stderr
    findings = [Finding(**json.loads(line)) for line in run.stdout.splitlines()]
    assert findings[0] == Finding("good", "Secret s in ns with the keys k exists")


def test_without_a_cluster_the_command_lists_what_must_exist(preflight: RunPreflight) -> None:
    """--offline asks nobody and succeeds; without it and without a cluster the exit code is that of wrong usage."""
    manifests = [make_deployment(priorityClassName="high"), {"apiVersion": "v1", "kind": "List", "items": []}]
    run = preflight(manifests, {}, "--offline")
    assert run.exit_code == 0, run.stderr
    assert "need PriorityClass high, for Deployment worker" in run.stdout
    assert "need image example.com/worker:1" in run.stdout
    run = preflight([{"kind": "Deployment"}], {}, "--offline")
    assert run.exit_code == 2
    assert "a manifest is not valid" in run.stderr
