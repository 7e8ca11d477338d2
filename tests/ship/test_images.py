from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT
from tests.support import chart

DOCKERFILES = ("Dockerfile.gateway", "Dockerfile.worker")
BIN = Path(sys.executable).parent


def compose() -> dict[str, Any]:
    """compose.yaml, its anchors resolved."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    """The Dockerfiles pass hadolint without an exception."""
    run = subprocess.run([BIN / "hadolint", name], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_is_pinnable_and_small(name: str) -> None:
    """The base is an argument (pipelines pin its digest), no heredocs (old builders), exec form for SIGTERM."""
    text = (ROOT / name).read_text()
    assert re.search(r"^ARG BASE=\S+$", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    assert bases - stages == {"${BASE}"}
    assert "<<" not in text
    assert re.findall(r"^(?:ENTRYPOINT|CMD) (?!\[)", text, re.MULTILINE) == []


def test_trivy_finds_nothing(tmp_path: Path) -> None:
    """Trivy's checks of Dockerfiles, every severity."""
    for name in DOCKERFILES:
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert trivy(tmp_path) == []


def test_compose_meets_its_schema() -> None:
    """compose.yaml is what the Compose specification allows."""
    schema = json.loads((chart.require_schemas() / "compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(compose())


def test_compose_reads_it_itself() -> None:
    """`docker compose config` resolves it without a word; needs the plugin, but no engine."""
    command = ["docker", "compose", "--file", "compose.yaml", "config", "--quiet"]
    if shutil.which("docker") is None or subprocess.run([*command[:2], "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` here; its schema is checked all the same")
    passwords = {f"{name}_PASSWORD": "p" for name in ("VALKEY", "FLOWER", "GRAFANA")}
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **passwords}, capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@pytest.mark.parametrize("name", compose()["services"])
def test_every_container_is_fenced_in(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, limits of CPU and memory; ports on loopback only."""
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_runs_what_the_images_hold() -> None:
    """Each of our services starts a module that exists, with time to drain."""
    services = compose()["services"]
    for name, module in (("courier", "gateway.courier"), ("flower", "jobs.flower")):
        assert services[name]["command"] == ["-m", module]
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()
    for name in ("gateway", "worker", "courier"):
        assert services[name]["stop_grace_period"] == "80s"


def trivy(folder: Path, severity: str = "UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL") -> list[str]:
    """Trivy's findings in a folder: id, file, message. Its checks are built in; nothing is fetched."""
    command = [str(BIN / "trivy"), "config", "--skip-check-update", "--skip-version-check", "--quiet"]
    command += ["--cache-dir", str(folder / ".trivy"), "--severity", severity, "--format", "json", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout).get("Results", [])
    found = [(result["Target"], each) for result in results for each in result.get("Misconfigurations", [])]
    return sorted(f"{each['ID']} {target} {each['Message']}" for target, each in found)
