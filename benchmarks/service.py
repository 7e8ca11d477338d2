"""Gleaner end to end: Redis, gateway and worker as processes, texts and results over HTTP.

One large job, single texts from 32 clients, and single texts at random times at a share of the capacity.
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
from benchmarks.children import Stack, start_stack
from benchmarks.contestants import Run, Spans, to_spans
from benchmarks.peers import CLIENTS
from benchmarks.texts import LABELS, Mix
from benchmarks.usage import Usage, rss_mb

WAIT_S = 60
REAL = {"gateway": ("gateway",), "worker": ("worker",)}


class Service:
    """A running stack, and measurements on it."""

    def __init__(self, running: Stack) -> None:
        self._stack = running
        self._headers = {"X-API-Key": running.key}
        children = {role: child.pid for role, child in running.children.items()}
        self.pids = {"server": running.server.process.pid, **children}

    @classmethod
    @contextmanager
    def start(cls, **settings: str) -> Iterator[Service]:
        """Start a stack with the real worker and these settings, until the block ends."""
        with start_stack(REAL, **settings) as running:
            yield cls(running)

    def run_one_job(self, mix: Mix) -> Run:
        """Run all texts as one job, until its results are read."""
        labels_of_each = (
            [{}] * len(mix.texts) if mix.shared else [{"labels": list(labels)} for labels in mix.labels]
        )
        documents = [{"text": text, **more} for text, more in zip(mix.texts, labels_of_each, strict=True)]
        body = b"\n".join(map(orjson.dumps, [{"labels": list(mix.labels[0])}, *documents]))
        with self._client() as client:  # created first: reading its certificates takes 20 ms
            before, usage = self.read_metrics(), self.start_usage()
            began = time.perf_counter()
            url = self._post_job(client, body)["urls"]["self"].removeprefix(self._stack.url)
            while not (job := client.get(url, params={"wait": WAIT_S}).json())["finished_at"]:
                pass
            results = client.get(url + "/results", headers={"Accept": "application/x-ndjson"})
        spans = [_read_spans(orjson.loads(line)) for line in results.content.splitlines()]
        seconds = time.perf_counter() - began
        if job["counts"]["succeeded"] != len(mix.texts):
            raise RuntimeError(f"{job['status']}: {job['counts']}")
        return Run(seconds, spans, usage.spent(), token_fill(before, self.read_metrics()))

    def run_many_clients(self, mix: Mix) -> Run:
        """Run every text as one job, from 32 clients."""
        return self._extract_each(mix, lambda requests: load.run_closed_loop(self._stack.url, requests, CLIENTS))

    def run_at_rate(self, mix: Mix, rate: float, seed: int = 0) -> Run:
        """Run every text as one job, at random times, `rate` per second on average."""
        return self._extract_each(mix, lambda requests: load.run_open_loop(self._stack.url, requests, rate, seed))

    def _extract_each(self, mix: Mix, send: Any) -> Run:
        requests = [
            load.encode_post("/v1/extract", {"labels": labels, "documents": [{"text": text}]}, self._headers)
            for text, labels in zip(mix.texts, mix.labels, strict=True)
        ]
        before, usage = self.read_metrics(), self.start_usage()
        began = time.perf_counter()
        answers: Sequence[load.Answer] = send(requests)
        seconds = time.perf_counter() - began
        spans = [_read_spans(answer.body["results"][0]) for answer in answers]
        latencies = [answer.seconds for answer in answers]
        return Run(seconds, spans, usage.spent(), token_fill(before, self.read_metrics()), latencies)

    def submit_job(self, texts: Sequence[str], model: str) -> None:
        """Submit a job without waiting for it."""
        lines = [{"model": model, "labels": list(LABELS)}, *({"text": text} for text in texts)]
        with self._client() as client:
            self._post_job(client, b"\n".join(map(orjson.dumps, lines)))

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._stack.url, headers=self._headers, trust_env=False, timeout=600)

    def _post_job(self, client: httpx.Client, body: bytes) -> Any:
        answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/x-ndjson"})
        if answer.status_code != 202:
            raise RuntimeError(answer.text)
        return answer.json()

    def redis_info(self) -> Mapping[str, Any]:
        """Return the answer of Redis' INFO command."""
        with self._stack.server.client() as client:
            info: Mapping[str, Any] = client.info()
        return info

    def start_usage(self) -> Usage:
        """Return a counter of CPU seconds from now on."""
        return Usage(self.pids)

    def rss_mb(self) -> dict[str, float]:
        """Return resident memory by part."""
        return {part: rss_mb(pid) for part, pid in self.pids.items()}

    def read_metrics(self) -> dict[tuple[str, ...], float]:
        """Return the worker's metrics: (name, label values…) -> value."""
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
        self.run = service.run_one_job


class ManyClients:
    """Gleaner with one job per text."""

    name = "gleaner, 32 clients"

    def __init__(self, service: Service) -> None:
        self.run = service.run_many_clients


def token_fill(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> float:
    """Return the share of real tokens in all tokens of the forward passes between two readings."""
    real, padded = (
        counter_increase(before, after, ("gleaner_microbatch_tokens_total", kind)) for kind in ("real", "padded")
    )
    return real / padded if padded else 0.0


def counter_increase(
    before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float], key: tuple[str, ...]
) -> float:
    """Return the increase of a counter between two readings."""
    return after.get(key, 0.0) - before.get(key, 0.0)


def mean_forward_s(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> float:
    """Return the mean seconds of a micro-batch in the model between two readings."""
    count = counter_increase(before, after, ("gleaner_stage_seconds_count", "forward"))
    return counter_increase(before, after, ("gleaner_stage_seconds_sum", "forward")) / count if count else 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` percent of the values do not exceed."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else values[0]


def _read_spans(result: Mapping[str, Any]) -> Spans:
    if result["status"] != "succeeded":
        raise RuntimeError(str(result["error"]))
    return to_spans(result["entities"])
