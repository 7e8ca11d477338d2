"""Gleaner end to end: server, gateway and worker as processes, texts in by HTTP, results out by HTTP.

One big job, single texts from 32 clients, and single texts at random moments at a part of the capacity.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import load
from benchmarks.children import Stack, stack
from benchmarks.contestants import Run, Spans, spans
from benchmarks.peers import CLIENTS
from benchmarks.texts import LABELS, Mix
from benchmarks.usage import Usage, rss_mb

WAIT_S = 60
REAL = {"gateway": ("gateway",), "worker": ("worker",)}


class Service:
    """A running stack and what is measured on it."""

    def __init__(self, running: Stack) -> None:
        self._stack = running
        self._headers = {"X-API-Key": running.key}
        children = {role: child.pid for role, child in running.children.items()}
        self.pids = {"server": running.server.process.pid, **children}

    @classmethod
    @contextmanager
    def started(cls, **settings: str) -> Iterator[Service]:
        """A stack of its own with the real worker, and these settings, until the block ends."""
        with stack(REAL, **settings) as running:
            yield cls(running)

    def one_job(self, mix: Mix) -> Run:
        """All texts as one job; ends when its results are here."""
        own = [{}] * len(mix.texts) if mix.shared else [{"labels": list(labels)} for labels in mix.labels]
        documents = [{"text": text, **more} for text, more in zip(mix.texts, own, strict=True)]
        body = b"\n".join(map(orjson.dumps, [{"labels": list(mix.labels[0])}, *documents]))
        with self._client() as client:  # made before: to read its certificates takes 20 ms
            before, usage = self.metrics(), self.usage()
            began = time.perf_counter()
            url = self._post(client, body)["urls"]["self"].removeprefix(self._stack.url)
            while not (job := client.get(url, params={"wait": WAIT_S}).json())["finished_at"]:
                pass
            results = client.get(url + "/results", headers={"Accept": "application/x-ndjson"})
        found = [_spans(orjson.loads(line)) for line in results.content.splitlines()]
        seconds = time.perf_counter() - began
        if job["counts"]["succeeded"] != len(mix.texts):
            raise RuntimeError(f"{job['status']}: {job['counts']}")
        return Run(seconds, found, usage.spent(), fill(before, self.metrics()))

    def many_clients(self, mix: Mix) -> Run:
        """Each text a job of its own, from 32 clients."""
        return self._calls(mix, lambda requests: load.closed(self._stack.url, requests, CLIENTS))

    def at_rate(self, mix: Mix, rate: float, seed: int = 0) -> Run:
        """Each text a job of its own, at random moments, `rate` a second in the mean."""
        return self._calls(mix, lambda requests: load.steady(self._stack.url, requests, rate, seed))

    def _calls(self, mix: Mix, send: Any) -> Run:
        requests = [
            load.post("/v1/extract", {"labels": labels, "documents": [{"text": text}]}, self._headers)
            for text, labels in zip(mix.texts, mix.labels, strict=True)
        ]
        before, usage = self.metrics(), self.usage()
        began = time.perf_counter()
        answers: Sequence[load.Answer] = send(requests)
        seconds = time.perf_counter() - began
        found = [_spans(answer.body["results"][0]) for answer in answers]
        latencies = [answer.seconds for answer in answers]
        return Run(seconds, found, usage.spent(), fill(before, self.metrics()), latencies)

    def submit(self, texts: Sequence[str], model: str) -> None:
        """A job that is not waited for."""
        lines = [{"model": model, "labels": list(LABELS)}, *({"text": text} for text in texts)]
        with self._client() as client:
            self._post(client, b"\n".join(map(orjson.dumps, lines)))

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._stack.url, headers=self._headers, trust_env=False, timeout=600)

    def _post(self, client: httpx.Client, body: bytes) -> Any:
        answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/x-ndjson"})
        if answer.status_code != 202:
            raise RuntimeError(answer.text)
        return answer.json()

    def server_info(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        with self._stack.server.client() as client:
            info: Mapping[str, Any] = client.info()
        return info

    def usage(self) -> Usage:
        """CPU seconds from now on."""
        return Usage(self.pids)

    def rss_mb(self) -> dict[str, float]:
        """Resident memory by part."""
        return {part: rss_mb(pid) for part, pid in self.pids.items()}

    def metrics(self) -> dict[tuple[str, ...], float]:
        """The worker's metrics: (name, label values…) -> value."""
        _, text = self._stack.children["worker"].probe("/metrics")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


class OneJob:
    """Gleaner with all texts in one job."""

    name = "gleaner, one job"

    def __init__(self, service: Service) -> None:
        self.run = service.one_job


class ManyClients:
    """Gleaner with a job a text."""

    name = "gleaner, 32 clients"

    def __init__(self, service: Service) -> None:
        self.run = service.many_clients


def fill(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> float:
    """Real tokens in all tokens of the forward passes between two looks."""
    real, padded = (moved(before, after, ("gleaner_microbatch_tokens_total", kind)) for kind in ("real", "padded"))
    return real / padded if padded else 0.0


def moved(
    before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float], key: tuple[str, ...]
) -> float:
    """By how much a counter grew."""
    return after.get(key, 0.0) - before.get(key, 0.0)


def forward_s(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> float:
    """Mean seconds of a micro-batch in the model between two looks."""
    count = moved(before, after, ("gleaner_stage_seconds_count", "forward"))
    return moved(before, after, ("gleaner_stage_seconds_sum", "forward")) / count if count else 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else values[0]


def _spans(result: Mapping[str, Any]) -> Spans:
    if result["status"] != "succeeded":
        raise RuntimeError(str(result["error"]))
    return spans(result["entities"])
