"""Metrics of the worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from jobs.observability.metrics.common import JOB_SECONDS, MetricFactory


class _DocumentMetrics:
    def __init__(self, create: MetricFactory) -> None:
        self.documents = create.counter(
            "gleaner_documents_total",
            "Documents finished by this worker, by outcome; a rising code other than ok needs a look at errors.md.",
            ["status", "code"],
        )
        self.documents.labels("succeeded", "ok")  # at 0: otherwise the first documents are not seen as an increase
        self.entities = create.counter(
            "gleaner_entities_total",
            "Entities found, by label if GLEANER_METRIC_LABELS names it, else `other`.",
            ["label"],
        )
        self.scores = create.counter(
            "gleaner_entity_scores_total",
            "Sum of the scores of entities found; divided by gleaner_entities_total it is the mean score.",
            ["label"],
        )
        self.words = create.counter(
            "gleaner_words_total", "Words of the documents read; entities per word show drift."
        )
        self.windowed = create.counter(
            "gleaner_windowed_documents_total", "Documents split into more than one window."
        )
        self.truncated = create.counter(
            "gleaner_truncated_documents_total", "Documents truncated at the client's request."
        )
        self.cached = create.counter(
            "gleaner_result_cache_documents_total",
            "Documents looked up in the result cache: hit, miss, or unread (the lookup failed, the model ran). Few "
            "hits: the cache is not worth having. Many unread: Redis is slow or refuses.",
            ["outcome"],
            start=("hit", "miss", "unread"),
        )


class _ShardMetrics:
    def __init__(self, create: MetricFactory) -> None:
        self.jobs = create.ended_jobs_counter()
        self.job_seconds = create.histogram(
            "gleaner_job_seconds",
            "Time from a job's creation to its end by its last shard, as clients see it.",
            ["priority"],
            buckets=JOB_SECONDS,
        )
        self.queue_wait = create.histogram(
            "gleaner_queue_wait_seconds",
            "Time from a job's creation to the first claim of its first shard; grows if there are too few workers.",
            buckets=JOB_SECONDS,
        )
        self.stage = create.histogram(
            "gleaner_stage_seconds",
            "Duration of a stage. Shard: fetch, cut, wait, merge, store. Micro-batch: collate, forward, decode.",
            ["stage"],
        )
        self.slots = create.gauge(
            "gleaner_worker_slots", "Shards that this worker may hold at once, per priority.", ["priority"]
        )
        self.held_shards = create.gauge(
            "gleaner_worker_shards", "Shards that this worker holds, by priority.", ["priority"]
        )
        self.leases_lost = create.counter(
            "gleaner_leases_lost_total",
            "Shards whose lease this worker lost while it ran them; above zero there are stalls or outages.",
        )


class _MicrobatchMetrics:
    def __init__(self, create: MetricFactory) -> None:
        self.microbatch_windows = create.histogram(
            "gleaner_microbatch_windows", "Windows per forward pass.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
        )
        self.microbatch_jobs = create.histogram(
            "gleaner_microbatch_jobs", "Different jobs per forward pass.", buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.microbatch_tokens = create.counter(
            "gleaner_microbatch_tokens_total",
            "Tokens through the model: real, and padded as the device computes them; their ratio is the fill.",
            ["kind"],
            start=("real", "padded"),
        )
        self.label_vectors = create.counter(
            "gleaner_label_vectors_total",
            "Labels that a bi-encoder needed for its micro-batches, by where their vectors came from: computed, or "
            "reused. Many computed while jobs ask for the same labels: there are more labels than the cache holds.",
            ["source"],
            start=("computed", "reused"),
        )
        self.budget = create.gauge("gleaner_microbatch_budget_tokens", "Maximum padded tokens of a micro-batch.")
        self.oom = create.counter(
            "gleaner_oom_total",
            "Out-of-memory events by reaction; if `split` repeats, reduce the token budget.",
            ["action"],
            start=("split", "failed"),
        )


class _ModelMetrics:
    def __init__(self, create: MetricFactory) -> None:
        self.model = create.gauge(
            "gleaner_model_info",
            "1, with the model, revision, runtime and precision of this worker; joined by instance it splits any "
            "other metric by them, for example to compare a canary.",
            ["model", "revision", "runtime", "precision"],
        )
        self.ready = create.gauge("gleaner_model_ready", "1 once the model is loaded and warm.")
        self.load_seconds = create.gauge("gleaner_model_load_seconds", "Time to load and warm the model at start.")


class WorkerMetrics(_DocumentMetrics, _ShardMetrics, _MicrobatchMetrics, _ModelMetrics):
    """Metrics of a worker process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        for group in (_DocumentMetrics, _ShardMetrics, _MicrobatchMetrics, _ModelMetrics):
            group.__init__(self, MetricFactory(registry))
