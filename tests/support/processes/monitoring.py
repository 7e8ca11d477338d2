"""A real Prometheus and a real Alertmanager on loopback that watch a service."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from alerts import generate
from tests.conftest import ROOT
from tests.support.processes.harness import ServiceHarness, free_port, wait_for

INTERVAL = "5s"
"""Value of `$__rate_interval` at one scrape per second."""


@dataclass
class Monitoring:
    """Prometheus, and Alertmanager if asked for.

    Attributes:
        url: Prometheus.
        alertmanager: its URL, or "".
    """

    directory: Path
    url: str
    alertmanager: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def watch(self, harness: ServiceHarness) -> None:
        """Scrape the processes that the harness runs now."""
        targets = [
            {
                "targets": [f"127.0.0.1:{child.probe_port}" for child in harness.children if child.role == role],
                "labels": {"job": f"gleaner-{role}"},
            }
            for role in ("gateway", "worker", "courier")
        ]
        path = self.directory / "targets.yml"
        draft = path.with_suffix(".new")
        draft.write_text(yaml.safe_dump(targets))
        draft.replace(path)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}, timeout=10, trust_env=False).json()
        assert answer["status"] == "success", (expr, answer)
        result = answer["data"]["result"]
        return list(result) if isinstance(result, list) else []

    def value(self, expr: str) -> float | None:
        """Return the value of an expression that has at most one sample; None without one."""
        samples = self.query(expr)
        return float(samples[0]["value"][1]) if samples else None

    def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        return {row["metric"]["alertname"] for row in self.query('ALERTS{alertstate="firing"}')}

    def pages(self) -> set[str]:
        """Return the names of the firing, uninhibited pages, according to Alertmanager."""
        rows = httpx.get(
            f"{self.alertmanager}/api/v2/alerts", params={"inhibited": "false"}, timeout=10, trust_env=False
        ).json()
        return {row["labels"]["alertname"] for row in rows if row["labels"]["severity"] == "page"}

    def stop(self) -> None:
        """End both processes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)


@contextmanager
def monitoring(tool: Callable[[str], Path], directory: Path, receiver: str = "") -> Iterator[Monitoring]:
    """Run Prometheus with our rules, their waiting times made a second, until the block ends.

    Args:
        tool: finds programs.
        directory: for configuration and data.
        receiver: where Alertmanager posts to: `RECEIVER/<receiver's name>`; "" runs none.
    """
    port, other = free_port(), free_port()
    running = Monitoring(directory, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}" if receiver else "")
    (directory / "targets.yml").write_text("[]")
    (directory / "rules.yml").write_text(generate.render_rules(generate.rule_groups().values(), after="1s"))
    document: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "gleaner", "file_sd_configs": [{"files": ["targets.yml"], "refresh_interval": "1s"}]}
        ],
    }
    if receiver:
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{other}"]}]}]}
        (directory / "alertmanager.yml").write_text(routes_to(receiver))
        _run(
            running,
            tool("prometheus-alertmanager"),
            f"--config.file={directory}/alertmanager.yml",
            f"--storage.path={directory}/am",
            f"--web.listen-address=127.0.0.1:{other}",
            "--cluster.listen-address=",
        )
    (directory / "prometheus.yml").write_text(yaml.safe_dump(document))
    _run(
        running,
        tool("prometheus"),
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    try:
        for url in filter(None, (running.url, running.alertmanager)):
            wait_for(lambda url=url: _answers(f"{url}/-/ready"), 30, f"{url} is ready")  # type: ignore[misc]
        yield running
    finally:
        running.stop()


def routes_to(receiver: str) -> str:
    """Our Alertmanager's own routes and inhibitions, with receivers that post here, at once and at any hour."""
    document = yaml.safe_load((ROOT / "alerts" / "alertmanager.yml").read_text())
    document.pop("global")
    route = document["route"]
    for entry in (route, *route["routes"]):
        entry |= {"group_wait": "1s", "group_interval": "1s"}
        entry.pop("mute_time_intervals", None)
    document["receivers"] = [
        {"name": entry["name"], "webhook_configs": [{"url": f"{receiver}/{entry['name']}", "send_resolved": True}]}
        for entry in document["receivers"]
    ]
    return str(yaml.safe_dump(document))


def _run(running: Monitoring, program: Path, *arguments: str) -> None:
    with (running.directory / f"{program.name}.log").open("wb") as log:
        command: Sequence[str] = [str(program), *arguments]
        running.processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
