"""A hostile tenant that makes every known attack at once, as often as its limits allow, for a bounded time.

    python -m tests.security.attackers http://127.0.0.1:8000 KEY 30 9001,9002

The last are ports of receivers that never answer. It runs as a separate process, so that its own work is not
measured as the victim's. Loopback only.
"""

from __future__ import annotations

import gzip
import itertools
import json
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

NESTED = b'{"labels":["p"],"documents":[{"text":"a"}],"options":[' + b",".join([b"[[[[]]]]"] * 400_000) + b"]}"
LABELS = [f"{number:02}" + "label of a hundred and more characters " * 3 for number in range(100)]


@dataclass
class Attacker:
    """Repeats its attacks until the time is over, and counts the responses by kind and status."""

    url: str
    key: str
    seconds: float
    ports: tuple[str, ...]
    answers: Counter[str] = field(default_factory=Counter)
    ending: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run every attack in a thread until the time is over."""
        attacks = (
            self.send_closers,
            self.send_nested_bodies,
            self.keep_bytes,
            self.ask_for_everything,
            self.read_large_results,
            self.call_slow_receivers,
            self.send_blank_lines,
            self.list_rare_states,
        )
        threads = [threading.Thread(target=self._repeat, args=(attack,), daemon=True) for attack in attacks]
        for thread in threads:
            thread.start()
        self.ending.wait(self.seconds)
        self.ending.set()
        for thread in threads:
            thread.join(20)

    def _repeat(self, attack: Callable[[httpx.Client, int], httpx.Response | None]) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False) as client:
            for number in itertools.count():
                if self.ending.is_set():
                    return
                try:
                    answer = attack(client, number)
                    status = str(answer.status_code) if answer is not None else "-"
                except httpx.HTTPError as error:
                    status = type(error).__name__
                self.answers[f"{attack.__name__} {status}"] += 1
                self.ending.wait(0.05)

    def send_closers(self, client: httpx.Client, number: int) -> httpx.Response:
        """Long texts of closing brackets, in both queues."""
        texts = [{"text": closer * 140_000} for closer in ")]}\"'»"]
        return submit(client, texts, priority=("interactive", "standard")[number % 2])

    def send_nested_bodies(self, client: httpx.Client, number: int) -> httpx.Response:
        """Millions of lists that fit into a small compressed body."""
        time.sleep(0.5)
        path = ("/v1/jobs", "/v1/extract")[number % 2]
        return client.post(
            path,
            content=gzip.compress(NESTED, 1),
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )

    def keep_bytes(self, client: httpx.Client, number: int) -> httpx.Response:
        """Texts and metadata that stay: cancelled, retried, cancelled."""
        metadata = {f"{at:02}": secrets.token_hex(250) for at in range(16)}
        response = submit(client, [{"text": secrets.token_hex(400_000)}], metadata=metadata)
        if response.status_code == 202:
            for path in ("cancel", "retry"):
                client.post(f"/v1/jobs/{response.json()['id']}/{path}")
        return response

    def ask_for_everything(self, client: httpx.Client, number: int) -> httpx.Response:
        """Every span under every one of a hundred long labels."""
        options = {"threshold": 0.0, "flat": False, "multi_label": True}
        return submit(client, [{"text": "a " * 4_000}], labels=LABELS, options=options)

    def read_large_results(self, client: httpx.Client, number: int) -> httpx.Response | None:
        """Results that are small in the store and large when read."""
        options = {"return_text": True, "long_text": "truncate"}
        response = submit(client, [{"text": "a " * 500_000}] * 16, options=options)
        if response.status_code != 202:
            return response
        path = f"/v1/jobs/{response.json()['id']}/results"
        for accept in ("application/json", "application/x-ndjson"):
            client.get(path, params={"limit": 100}, headers={"Accept": accept})
        return client.get(path, params={"limit": 100})

    def call_slow_receivers(self, client: httpx.Client, number: int) -> httpx.Response:
        """Submit a job of one document for each of many receivers that do not answer."""
        url = f"http://127.0.0.1:{self.ports[number % len(self.ports)]}/silent/{number}"
        return submit(client, [{"text": "Ada"}], webhook={"url": url})

    def send_blank_lines(self, client: httpx.Client, number: int) -> httpx.Response:
        """Lines of nothing."""
        body = b'{"labels":["p"]}\n' + b"\n" * 4_000_000
        return client.post("/v1/jobs", content=body, headers={"Content-Type": "application/x-ndjson"})

    def list_rare_states(self, client: httpx.Client, number: int) -> httpx.Response:
        """Jobs of a state that there is none of: every one has to be looked at."""
        return client.get("/v1/jobs", params={"status": "expired", "limit": 100})


def submit(client: httpx.Client, documents: list[dict[str, Any]], **fields: Any) -> httpx.Response:
    """Submit a job."""
    return client.post("/v1/jobs", json={"labels": ["p"], "documents": documents, **fields})


if __name__ == "__main__":
    attacker = Attacker(sys.argv[1], sys.argv[2], float(sys.argv[3]), tuple(sys.argv[4].split(",")))
    attacker.run()
    sys.stdout.write(json.dumps(attacker.answers))
