"""One busy service, scraped by a real Prometheus with our rules; a real Alertmanager behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import Tool
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.processes.monitoring import Monitoring, monitoring
from tests.support.servers.receivers import Receiver, receiving

MARKER = "Zanzibar Quillfeather"
"""Stands in every text; it must appear in no log and no metric."""
LABEL = "secretlabelword"
WEBHOOKS = {"GLEANER_WEBHOOK_ALLOW": "127.0.0.0/8", "GLEANER_WEBHOOK_ALLOW_HTTP": "true"}


@dataclass
class Watched:
    """A service and those who watch it."""

    harness: ServiceHarness
    monitoring: Monitoring
    receiver: Receiver
    url: str

    def submit(self, texts: list[str], **more: object) -> str:
        """Submit a job; its id."""
        body = {"labels": [LABEL], "documents": [{"text": text} for text in texts], **more}
        answer = httpx.post(f"{self.url}/v1/jobs", json=body, timeout=30, trust_env=False)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def ended(self, job: str) -> str:
        """Await a job's end; its status."""
        for _ in range(10):
            job_json = httpx.get(f"{self.url}/v1/jobs/{job}?wait=10", timeout=30, trust_env=False).json()
            if job_json["finished_at"]:
                return str(job_json["status"])
        raise AssertionError(f"{job} did not end")


@pytest.fixture(scope="session")
def watched(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run a gateway, a courier and a worker that have worked for a while and are idle now."""
    directory = tmp_path_factory.mktemp("monitoring")
    for needed in ("prometheus", "prometheus-alertmanager"):
        tool(needed)
    harness = ServiceHarness()
    harness.settings |= WEBHOOKS
    try:
        with receiving() as receiver, monitoring(tool, directory, receiver.url("")) as watch:
            gateway = harness.gateway()
            for child in (gateway, harness.worker(), harness.courier()):
                child.wait_ready()
            watch.watch(harness)
            running = Watched(harness, watch, receiver, gateway.url)
            wait_for(lambda: len(watch.query("up == 1")) == 3, 30, "all three are scraped")
            _work(running, 8)
            yield running
    finally:
        harness.close()


def _work(watched: Watched, seconds: float) -> None:
    """Jobs of every kind, for long enough that rates are there."""
    end, job = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        long = " ".join([MARKER, *["and so on"] * 600])
        watched.submit([f"{MARKER} met Ada Lovelace", long], webhook={"url": watched.receiver.url("/hook")})
        watched.submit([f"{MARKER} FAULTERROR", f"{MARKER} lives in Paris"], priority="interactive")
        job = watched.submit([f"{MARKER} waits"] * 200, priority="standard")
        httpx.post(f"{watched.url}/v1/jobs/{job}/cancel", timeout=30, trust_env=False)
        time.sleep(0.3)
    watched.ended(job)


@pytest.fixture
def rules() -> list[Path]:
    """Every rule file."""
    from tests.conftest import ROOT

    return sorted((ROOT / "alerts" / "rules").glob("*.yml"))
