"""Every metric of every process, in one place: name, kind, unit, help, and what to do when it moves.

A process makes its own set on its own registry; nothing registers itself on import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client import ProcessCollector as _ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.ledger.stats import LedgerStats, ModelStats

OTHER_LABEL = "other"
"""Stands for every entity label that the settings do not name: users' words are no metric labels."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)


def register_process_metrics(registry: CollectorRegistry, usage: Collector | None = None) -> None:
    """What every process shows of itself: processor, memory, files, interpreter, and the GPUs it can see.

    Args:
        registry: where to show it.
        usage: processor, memory and files, where they are more than this process's own.
    """
    registry.register(usage or _ProcessCollector(registry=None))
    for collector in (PlatformCollector, GCCollector):
        collector(registry=registry)
    with contextlib.suppress(Exception):  # no NVML library, no driver, no device: nothing to show
        registry.register(Gpus())


def _from_zero(counter: Counter, *values: str) -> Counter:
    """Show these values of the one label at once: the first event would else be no increase but a beginning."""
    for value in values:
        counter.labels(value)
    return counter


def ended_jobs_counter(registry: CollectorRegistry) -> Counter:
    """Jobs that this process ended; made once where a process ends jobs in two ways."""
    jobs = Counter("gleaner_jobs_total", "Jobs that this process ended, by status.", ["status"], registry=registry)
    return _from_zero(jobs, "succeeded", "partially_succeeded", "failed", "cancelled", "expired")


class GatewayMetrics:
    """What the gateway counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = ended_jobs_counter(registry)
        self.http_requests = Counter(
            "gleaner_http_requests_total",
            "HTTP requests answered, by route template, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.http_seconds = Histogram(
            "gleaner_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.store_down = Gauge(
            "gleaner_store_down",
            "1 while the gateway's circuit breaker to the ledger is open: every call is answered 503 at once.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.keys_file_ok = Gauge(
            "gleaner_keys_file_ok",
            "1 while the keys file can be read; 0: the keys last read stay in force, revoked ones too.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.keys_file_ok.set(1)
        self.keys_file_stale = Gauge(
            "gleaner_keys_file_stale_seconds",
            "How long the keys file has been unreadable; above GLEANER_KEYS_MAX_STALE_S every key is refused.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.auth_failures = Counter(
            "gleaner_auth_failures_total",
            "Requests refused for their key: missing, bad (unknown, expired, revoked), limited (bad, and too many "
            "from one address), csrf, closed (the keys file cannot be read); a jump of bad or limited is somebody "
            "guessing, or a key that ran out.",
            ["reason"],
            registry=registry,
        )
        self.limited = Counter(
            "gleaner_limited_total",
            "Requests answered 429 by a limit of their key, tenant or address, by what was too much.",
            ["measure", "scope"],
            registry=registry,
        )
        self.submitted_jobs = Counter(
            "gleaner_submitted_jobs_total",
            "Jobs accepted; none for long: do callers fail?",
            registry=registry,
        )
        self.submitted_documents = Counter(
            "gleaner_submitted_documents_total", "Documents of accepted jobs.", registry=registry
        )


class ProcessesMetrics:
    """What a gateway of several processes counts of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.serving = Gauge(
            "gleaner_gateway_processes",
            "Processes that serve the API now, where GLEANER_GATEWAY_PROCESSES asks for several.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.ended = Counter(
            "gleaner_gateway_processes_ended_total",
            "Gateway processes that were started anew: died, or stalled (its event loop stood still, so it was "
            "killed); should stay 0.",
            ["reason"],
            registry=registry,
        )
        _from_zero(self.ended, "died", "stalled")


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "gleaner_documents_total",
            "Documents finished by this worker, by outcome; a rising code other than ok names what to look at.",
            ["status", "code"],
            registry=registry,
        )
        self.jobs = ended_jobs_counter(registry)
        self.job_seconds = Histogram(
            "gleaner_job_seconds",
            "From a job's creation to its end by its last shard: what a client waits for.",
            ["priority"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.entities = Counter(
            "gleaner_entities_total",
            "Entities found, by label where GLEANER_METRIC_LABELS names it, else `other`.",
            ["label"],
            registry=registry,
        )
        self.scores = Counter(
            "gleaner_entity_scores_total",
            "Sum of the scores of entities found; over gleaner_entities_total it is the mean score.",
            ["label"],
            registry=registry,
        )
        self.words = Counter(
            "gleaner_words_total", "Words of the documents read; entities per word show drift.", registry=registry
        )
        self.windowed = Counter(
            "gleaner_windowed_documents_total", "Documents that took more than one window.", registry=registry
        )
        self.truncated = Counter(
            "gleaner_truncated_documents_total", "Documents cut by request of the client.", registry=registry
        )
        self.cached = Counter(
            "gleaner_result_cache_documents_total",
            "Documents looked up in the result cache: hit, miss, or unread (it did not answer, the model did); "
            "few hits mean that it is not worth having, unread that the store is slow or refuses.",
            ["outcome"],
            registry=registry,
        )
        _from_zero(self.cached, "hit", "miss", "unread")
        self.queue_wait = Histogram(
            "gleaner_queue_wait_seconds",
            "From a job's creation to the first claim of its first shard; grows when workers are short.",
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "gleaner_stage_seconds",
            "Time of a stage. Shard: fetch, cut, wait, merge, store. Micro-batch: collate, forward, decode.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.microbatch_windows = Histogram(
            "gleaner_microbatch_windows",
            "Windows in one forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.microbatch_jobs = Histogram(
            "gleaner_microbatch_jobs",
            "Different jobs in one forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.microbatch_tokens = Counter(
            "gleaner_microbatch_tokens_total",
            "Tokens through the model: real, and padded as the device pays for them; their ratio is the fill.",
            ["kind"],
            registry=registry,
        )
        _from_zero(self.microbatch_tokens, "real", "padded")
        self.budget = Gauge(
            "gleaner_microbatch_budget_tokens", "Padded tokens a micro-batch may have.", registry=registry
        )
        self.slots = Gauge(
            "gleaner_worker_slots",
            "Shards this worker may hold at once, of each priority.",
            ["priority"],
            registry=registry,
        )
        self.held_shards = Gauge(
            "gleaner_worker_shards", "Shards this worker holds now, by priority.", ["priority"], registry=registry
        )
        self.leases_lost = Counter(
            "gleaner_leases_lost_total",
            "Shards whose lease this worker lost while it ran them; above zero means stalls or outages.",
            registry=registry,
        )
        self.oom = Counter(
            "gleaner_oom_total",
            "Out-of-memory events by what was done; repeated `split` asks for a smaller token budget.",
            ["action"],
            registry=registry,
        )
        _from_zero(self.oom, "split", "failed")
        self.model = Gauge(
            "gleaner_model_info",
            "1, with the model and the revision that this worker runs, and on what: joined by instance, it splits "
            "any other number by them, to compare a canary with what it is to replace.",
            ["model", "revision", "runtime", "precision"],
            registry=registry,
        )
        self.ready = Gauge("gleaner_model_ready", "1 once the model is loaded and warm.", registry=registry)
        self.load_seconds = Gauge(
            "gleaner_model_load_seconds", "Time to load and warm the model at start.", registry=registry
        )


class WebhookMetrics:
    """What a courier counts about webhooks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "gleaner_webhook_attempts_total",
            "Attempts at deliveries by what came of them: delivered, retry (tried again later), failed (given up).",
            ["outcome"],
            registry=registry,
        )
        _from_zero(self.attempts, "delivered", "retry", "failed")
        self.seconds = Histogram(
            "gleaner_webhook_seconds",
            "Time of one attempt; near 15 means receivers that do not answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.delay = Histogram(
            "gleaner_webhook_first_attempt_delay_seconds",
            "From the end of a job to the first attempt; grows when couriers are short.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.disabled = Gauge(
            "gleaner_webhook_endpoints_disabled",
            "Endpoints that get no events, by their owner's wish or after failures.",
            registry=registry,
        )


class UpkeepMetrics:
    """What upkeep counts, in the courier or a gateway that stands in for it.

    Args:
        jobs: the process's count of ended jobs, if it has one already.
    """

    def __init__(self, registry: CollectorRegistry, jobs: Counter | None = None) -> None:
        self.jobs = jobs or ended_jobs_counter(registry)
        self.republished = Counter(
            "gleaner_republished_total",
            "Shards published again by upkeep, by cause; steady growth of message_lost or lease_lost is trouble.",
            ["cause"],
            registry=registry,
        )
        _from_zero(self.republished, "message_lost", "lease_lost", "deferred", "window")
        self.repairs = Counter(
            "gleaner_ledger_repairs_total", "Facts that upkeep's audit mended; should stay 0.", registry=registry
        )
        self.seconds = Histogram(
            "gleaner_upkeep_seconds", "Time of one upkeep tick.", buckets=_SECONDS, registry=registry
        )


_BACKLOG: tuple[tuple[str, str, Callable[[ModelStats], float]], ...] = (
    ("gleaner_open_shards", "Shards not finished: waiting, published or running.", lambda b: b.shards),
    ("gleaner_open_jobs", "Jobs not finished.", lambda b: b.jobs),
    (
        "gleaner_backlog_characters",
        "Characters of shards not finished, once for each pass that labels need.",
        lambda b: b.characters,
    ),
    (
        "gleaner_backlog_seconds",
        "How long the backlog takes at the measured rate; the oldest job's age where none was measured.",
        lambda b: b.backlog_s,
    ),
    ("gleaner_oldest_open_seconds", "Age of the oldest job not finished.", lambda b: b.oldest_s),
    ("gleaner_drain_characters_per_second", "Characters a second that workers finish.", lambda b: b.drain_rate),
    ("gleaner_live_workers", "Workers on the ledger's list.", lambda b: b.workers),
    ("gleaner_model_trouble", "1 while workers of the model cannot start.", lambda b: b.trouble),
)


class LedgerStatsCollector(Collector):
    """The queue as the ledger knows it, read when /metrics is asked for, so that it is never older than the scrape.

    Args:
        read: one call to the ledger.
        speaks: False while somebody else shows the queue (a gateway speaks only while it stands in for couriers).
    """

    def __init__(self, read: Callable[[], LedgerStats], speaks: Callable[[], bool] = lambda: True) -> None:
        self._read = read
        self._speaks = speaks

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register it must not read the ledger."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The queue now, or `gleaner_store_up 0` alone."""
        if not self._speaks():
            return
        up = GaugeMetricFamily("gleaner_store_up", "1 if the ledger answered just now.")
        try:
            truth = self._read()
        except Exception:  # noqa: BLE001  # whatever keeps it from answering is told by this very metric
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        for name, help_, value in (
            ("gleaner_store_memory_bytes", "Memory the ledger's server uses.", truth.memory_used),
            ("gleaner_store_memory_limit_bytes", "Memory it may use; 0 is no limit.", truth.memory_max),
            ("gleaner_store_durable", "1 if its append-only file is on and was written well.", int(truth.durable)),
        ):
            yield GaugeMetricFamily(name, help_, value=value)
        kept = GaugeMetricFamily(
            "gleaner_tenant_stored_bytes",
            "What a tenant keeps in the store, of the 20 that keep most (operators make tenants): look when memory "
            "is short.",
            labels=["tenant"],
        )
        for tenant, size in truth.stored:
            kept.add_metric([tenant], size)
        yield kept
        for name, help_, of in _BACKLOG:
            family = GaugeMetricFamily(name, help_, labels=["model"])
            for backlog in truth.models:
                family.add_metric([backlog.model], float(of(backlog)))
            yield family


class Gpus(Collector):
    """The GPUs that this process can see, by NVML.

    Raises:
        Exception: there is no NVML library (the extra `gpu`), no driver, or no device.
    """

    def __init__(self) -> None:
        self._nvml = nvml = import_module("pynvml")  # optional: the extra `gpu`
        nvml.nvmlInit()
        self._devices = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not touch the device."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One sample per device and reading; what a device does not answer is left out (MIG has no utilisation)."""
        nvml = self._nvml
        readings: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
            (
                "gleaner_gpu_memory_used_bytes",
                "Device memory in use by all.",
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            ),
            (
                "gleaner_gpu_memory_limit_bytes",
                "Device memory there is.",
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            ),
            (
                "gleaner_gpu_busy_ratio",
                "Share of time in which a kernel ran.",
                lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            ),
            (
                "gleaner_gpu_temperature_celsius",
                "Temperature of the device.",
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            ),
        )
        for name, help_, read in readings:
            family = GaugeMetricFamily(name, help_, labels=["gpu"])
            for number, device in enumerate(self._devices):
                with contextlib.suppress(nvml.NVMLError):
                    family.add_metric([str(number)], read(device))
            yield family
