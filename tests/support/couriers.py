"""Couriers as processes of their own, and jobs that end so that they have something to deliver.

`python -m tests.support.couriers RULES` is a courier with another schedule than production's: it comes in through
the composition root, as JSON. Settings come from the environment, as ever.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.courier import CourierSettings, run
from gateway.webhooks import signing
from gateway.webhooks.deliverer import Rules
from gateway.webhooks.endpoints import Card, Secret
from gateway.webhooks.schedule import Schedule
from jobs import ledger
from jobs.ledger import Ledger, deliveries
from jobs.ledger.deliveries import Endpoint
from tests.conftest import ROOT
from tests.support.ledger import CODEC, new_job


@dataclass
class Courier:
    """A running courier process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def wait_ready(self, within_s: float = 30) -> None:
        """Return once it takes messages."""
        end = time.monotonic() + within_s
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the courier is not ready:\n{self.log.read_text()[-4000:]}")

    def metric(self, name: str) -> float:
        """A metric's value, summed over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def kill(self) -> None:
        """SIGKILL: nothing is given back."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@dataclass
class Couriers:
    """Starts couriers on one server; all are gone when the test is."""

    redis_url: str
    broker_url: str
    directory: Path
    started: list[Courier] = field(default_factory=list)

    def start(self, rules: dict[str, Any] | None = None, **settings: object) -> Courier:
        """A courier with these rules (see `Rules`; `delays_s` and `jitter` are the schedule's) and settings."""
        port = _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GLEANER_")},
            "GLEANER_REDIS_URL": self.redis_url,
            "GLEANER_BROKER_URL": self.broker_url,
            "GLEANER_METRICS_PORT": str(port),
            "GLEANER_WEBHOOK_ALLOW": "127.0.0.0/8",
            "GLEANER_WEBHOOK_ALLOW_HTTP": "true",
            **{f"GLEANER_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log = self.directory / f"courier-{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.couriers", json.dumps(rules or {})],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        courier = Courier(process, port, log)
        self.started.append(courier)
        return courier


@contextmanager
def couriers_of(redis_url: str, broker_url: str, directory: Path) -> Iterator[Couriers]:
    """Couriers that end with the block."""
    couriers = Couriers(redis_url, broker_url, directory)
    try:
        yield couriers
    finally:
        for courier in couriers.started:
            if courier.process.poll() is None:
                courier.kill()


def add_endpoint(
    store: Ledger,
    name: str,
    url: str,
    *,
    tenant: str = "t1",
    events: Sequence[str] = (),
    every: bool = True,
    secret: str | None = None,
    lane: str | None = None,
) -> str:
    """An endpoint straight into the ledger, no gateway asked; its secret."""
    secret = secret or signing.new_secret()
    card = Card(url, "", (Secret(secret),))
    sealed = card.seal(CODEC, name)
    record = Endpoint(
        name, tenant, 0, sealed, tuple(events), "url", every, lane or name, "active", created=0, now=0
    )
    assert store.run(deliveries.ep_put(record, most=10_000)) == "ok"
    return secret


def end_job(store: Ledger, job: str, *, tenant: str = "t1", ok: bool = True, **more: Any) -> None:
    """A job of one document that is created and finished at once."""
    created = store.run(ledger.create(new_job(job, tenant=tenant, **more)))
    [message] = created.publish
    assert store.run(ledger.claim(message, job, "w", "rev")).kind == "run"
    counts = (1, 0) if ok else (0, 1)
    errors = {} if ok else {"inference_failed": 1}
    assert store.run(ledger.complete(message, job, b"r", b"", *counts, {}, errors)).kind == "stored"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def main() -> int:
    """Be a courier."""
    given: dict[str, Any] = orjson.loads(sys.argv[1])
    delays, jitter = tuple(given.pop("delays_s", Schedule().delays_s)), given.pop("jitter", 0.2)
    return run(CourierSettings(), Rules(schedule=Schedule(delays, jitter), **given))


if __name__ == "__main__":
    sys.exit(main())
