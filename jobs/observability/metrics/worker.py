"""Metrics of the worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from jobs.observability.metrics.common import JOB_SECONDS, SECONDS, ended_jobs_counter, start_at_zero


class _DocumentMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "gleaner_documents_total",
            "Documents finished by this worker, by outcome; a rising code other than ok needs a look at errors.md.",
            ["status", "code"],
            registry=registry,
        )
        self.documents.labels("succeeded", "ok")  # at 0: otherwise the first documents are not seen as an increase
        self.entities = Counter(
            "gleaner_entities_total",
            "Entities found, by label if GLEANER_METRIC_LABELS names it, else `other`.",
            ["label"],
            registry=registry,
        )
        self.scores = Counter(
            "gleaner_entity_scores_total",
            "Sum of the scores of entities found; divided by gleaner_entities_total it is the mean score.",
            ["label"],
            registry=registry,
        )
        self.words = Counter(
            "gleaner_words_total", "Words of the documents read; entities per word show drift.", registry=registry
        )
        self.windowed = Counter(
            "gleaner_windowed_documents_total", "Documents split into more than one window.", registry=registry
        )
        self.truncated = Counter(
            "gleaner_truncated_documents_total", "Documents truncated at the client's request.", registry=registry
        )
        self.cached = Counter(
            "gleaner_result_cache_documents_total",
            "Documents looked up in the result cache: hit, miss, or unread (the lookup failed, the model ran). Few "
            "hits: the cache is not worth having. Many unread: Redis is slow or refuses.",
            ["outcome"],
            registry=registry,
        )
        start_at_zero(self.cached, "hit", "miss", "unread")


class _ShardMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = ended_jobs_counter(registry)
        self.job_seconds = Histogram(
            "gleaner_job_seconds",
            "Time from a job's creation to its end by its last shard, as clients see it.",
            ["priority"],
            buckets=JOB_SECONDS,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "gleaner_queue_wait_seconds",
            "Time from a job's creation to the first claim of its first shard; grows if there are too few workers.",
            buckets=JOB_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "gleaner_stage_seconds",
            "Duration of a stage. Shard: fetch, cut, wait, merge, store. Micro-batch: collate, forward, decode.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.slots = Gauge(
            "gleaner_worker_slots",
            "Shards that this worker may hold at once, per priority.",
            ["priority"],
            registry=registry,
        )
        self.held_shards = Gauge(
            "gleaner_worker_shards", "Shards that this worker holds, by priority.", ["priority"], registry=registry
        )
        self.leases_lost = Counter(
            "gleaner_leases_lost_total",
            "Shards whose lease this worker lost while it ran them; above zero there are stalls or outages.",
            registry=registry,
        )


class _MicrobatchMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.microbatch_windows = Histogram(
            "gleaner_microbatch_windows",
            "Windows per forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.microbatch_jobs = Histogram(
            "gleaner_microbatch_jobs",
            "Different jobs per forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.microbatch_tokens = Counter(
            "gleaner_microbatch_tokens_total",
            "Tokens through the model: real, and padded as the device computes them; their ratio is the fill.",
            ["kind"],
            registry=registry,
        )
        start_at_zero(self.microbatch_tokens, "real", "padded")
        self.budget = Gauge(
            "gleaner_microbatch_budget_tokens", "Maximum padded tokens of a micro-batch.", registry=registry
        )
        self.oom = Counter(
            "gleaner_oom_total",
            "Out-of-memory events by reaction; if `split` repeats, reduce the token budget.",
            ["action"],
            registry=registry,
        )
        start_at_zero(self.oom, "split", "failed")


class _ModelMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.model = Gauge(
            "gleaner_model_info",
            "1, with the model, revision, runtime and precision of this worker; joined by instance it splits any "
            "other metric by them, for example to compare a canary.",
            ["model", "revision", "runtime", "precision"],
            registry=registry,
        )
        self.ready = Gauge("gleaner_model_ready", "1 once the model is loaded and warm.", registry=registry)
        self.load_seconds = Gauge(
            "gleaner_model_load_seconds", "Time to load and warm the model at start.", registry=registry
        )


class WorkerMetrics(_DocumentMetrics, _ShardMetrics, _MicrobatchMetrics, _ModelMetrics):
    """Metrics of a worker process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        for group in (_DocumentMetrics, _ShardMetrics, _MicrobatchMetrics, _ModelMetrics):
            group.__init__(self, registry)
