"""The worker's composition root: builds everything from settings and runs until SIGTERM.

Start: probes, weights, warm-up, threads, Celery. Stop, in reverse order: Celery finishes the running tasks and
returns the messages that it reserved, then `worker.lifecycle` stops the threads.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from celery import Celery, Task
from prometheus_client import CollectorRegistry

from jobs import ledger, naming
from jobs.codec import Codec, make_codec
from jobs.ledger import Ledger, LedgerUnavailableError, Message, ModelFacts
from jobs.observability import logs, tracing
from jobs.observability.metrics import WorkerMetrics, register_process_metrics
from jobs.observability.probes import ProbeServer
from jobs.process import memory
from jobs.process.cpu import cpu_count, limit_thread_pools, share_interpreter
from jobs.queue import celery_queues
from jobs.queue.consumer import process_name, run_consumer
from jobs.redis import clients
from jobs.schema import DEFAULT_THRESHOLD, Priority
from worker.batching.batcher import MicroBatcher
from worker.health import HUNG_EXIT_CODE, Health
from worker.lifecycle import Lifecycle
from worker.protocols import Engine, ModelSpec, ShardRef
from worker.settings import WorkerSettings
from worker.shards.documents import DocumentRunner
from worker.shards.heartbeats import Heartbeats
from worker.shards.leases import Lease, LeaseKeeper
from worker.shards.result_cache import TIMEOUT_S, ResultCache
from worker.shards.runner import ShardRunner
from worker.shards.shards_at_risk import ShardsAtRisk
from worker.telemetry import ForwardTracer, MetricsObserver
from worker.text.bounds import Limits
from worker.text.windows import CutRules

log = logging.getLogger(__name__)

SHIPPED = (Path(__file__).parent / "shipped", Path(__file__).parents[1] / "models")
"""Folders of the models that come with Gleaner: in a wheel; in a checkout or an image."""
START_FAILED_EXIT_CODE = 78
"""EX_CONFIG: the model cannot be loaded; a restart will not help until the configuration is changed."""

SLOTS_PER_SPARE = 4
"""Slots for which there is one spare: the ledger publishes as many shards of a tenant as there are announced slots,
so that a shard of another tenant finds a spare one at once."""

LoadEngine = Callable[[WorkerSettings], Engine]


@dataclass(frozen=True)
class _Process:
    """The parts of this process that exist before the model is loaded.

    Attributes:
        worker: name of this process in the ledger, with a random end: a restarted container has its predecessor's
            name and pid, but must not hold its leases and shards at risk.
    """

    worker: str
    settings: WorkerSettings
    store: Ledger
    metrics: WorkerMetrics
    health: Health


def run(settings: WorkerSettings, load: LoadEngine) -> int:
    """Run a worker until SIGTERM; return the exit code, 0 after all shards were finished or given back.

    Args:
        settings: read once, by the caller.
        load: loads the engine; `load_engine` in production.
    """
    logs.configure_logging(settings, "worker")
    limit_thread_pools(cpu_count(settings.cpus))
    share_interpreter()
    memory.configure_malloc()
    registry = CollectorRegistry()
    register_process_metrics(registry)
    health = Health(settings.hang_timeout_s)
    worker = f"{process_name('worker')}#{secrets.token_hex(4)}"
    store, metrics = _connect_ledger(settings, "gleaner-worker"), WorkerMetrics(registry)
    process = _Process(worker, settings, store, metrics, health)
    probes = ProbeServer(
        settings.metrics_host, settings.metrics_port, registry, health.check_alive, health.check_ready
    )
    probes.start()
    try:
        engine, budget = _warm_up(process, load)
    except Exception as error:  # noqa: BLE001  # any reason must be reported to the clients that wait for this model
        reason = f"{type(error).__name__}: {error}"  # no user's text is in this process yet
        logs.log_failure(log, "model.load_failed", error, model=settings.model, reason=reason)
        _report_model_error(process, reason)
        probes.stop()
        return START_FAILED_EXIT_CODE
    exit_code = _serve(process, engine, budget)
    probes.stop()
    return exit_code


def load_engine(settings: WorkerSettings) -> Engine:
    """Load the production engine: GLiNER on the fastest runtime, with weights from the source in the settings.

    Raises:
        ModelError: the weights are missing, damaged, or contain pickles.
    """
    from worker.model import engine
    from worker.model.sources import resolve  # torch takes seconds to import, and only this process needs it

    shipped = (str(folder / settings.model) for folder in SHIPPED if (folder / settings.model).is_dir())
    source = settings.model_source or next(shipped, settings.model)
    cache = settings.model_cache.expanduser()
    files = resolve.SourceOptions(
        settings.model_backbone_revision or None,
        settings.model_convert,
        settings.model_variant,
        settings.word_splitter,
    )
    resolved = resolve.resolve_model(source, settings.model_revision or None, cache, files)
    options = engine.EngineOptions(
        settings.device,
        settings.precision,
        settings.runtime,
        cache,
        settings.gpu_shared_by,
        settings.max_row_tokens,
        settings.word_splitter,
        settings.merge_adjacent,
        settings.cpus,
    )
    return engine.load_model(resolved, options)


def _connect_ledger(settings: WorkerSettings, name: str, timeout_s: float | None = None) -> Ledger:
    return Ledger(clients.connect(settings.redis_url, timeout_s or settings.store_timeout_s, name))


def _warm_up(process: _Process, load: LoadEngine) -> tuple[Engine, int]:
    """Load the engine; return it and the padded tokens of a micro-batch."""
    settings, metrics = process.settings, process.metrics
    started = monotonic()
    engine = load(settings)
    budget = settings.microbatch_tokens or engine.warm_up()
    metrics.load_seconds.set(monotonic() - started)
    metrics.budget.set(budget)
    spec = engine.spec
    metrics.model.labels(settings.model, spec.revision, spec.runtime, spec.precision).set(1)
    log.info(
        "model.ready",
        extra={
            "model": settings.model,
            "revision": spec.revision,
            "runtime": spec.runtime,
            "precision": spec.precision,
            "budget_tokens": budget,
            "seconds": round(monotonic() - started, 2),
        },
    )
    return engine, budget


def _report_model_error(process: _Process, reason: str) -> None:
    try:
        process.store.run(ledger.report_model_error(process.settings.model, reason[:500]))
    except LedgerUnavailableError as error:
        log.warning("model.error_report_failed", extra={"reason": str(error)})


def _serve(process: _Process, engine: Engine, budget: int) -> int:
    """Run shards until SIGTERM; return Celery's exit code."""
    settings, slots = process.settings, process.settings.worker_slots
    forward_tracer = ForwardTracer(tracing.start_tracing(settings, "worker"), {})
    at_risk = _track_risk(process)
    batcher = MicroBatcher(
        engine,
        budget,
        before_forward=partial(_prepare_forward, at_risk, forward_tracer),
        observer=MetricsObserver(process.metrics, forward_tracer.end_span),
    )
    lifecycle = Lifecycle(
        health=process.health,
        batcher=batcher,
        leases=_keep_leases(process, engine.spec, batcher),
        heartbeats=Heartbeats(),
        metrics=process.metrics,
        deregister=partial(_deregister, process),
        grace_s=settings.shutdown_grace_s,
        hang_timeout_s=settings.hang_timeout_s,
    )
    runner = _build_runner(process, engine, lifecycle, at_risk, forward_tracer)
    queues = celery_queues.model_queues([settings.model])
    app = celery_queues.build_celery_app(settings.broker_url, queues, "worker")
    _register_task(app, runner)
    lifecycle.start()
    exit_code = run_consumer(
        app,
        process_name("worker"),
        slots + spare_slots(slots),
        on_ready=partial(_report_ready, lifecycle, slots),
        on_stop=lifecycle.begin_drain,
    )
    lifecycle.stop()
    return exit_code


def _track_risk(process: _Process) -> ShardsAtRisk:
    """Return the list of the shards at risk, written on a connection that no other call can delay."""
    store = _connect_ledger(process.settings, "gleaner-worker-marks")
    return ShardsAtRisk(lambda shards, left: store.run(ledger.set_crash_suspects(process.worker, shards, left)))


def _prepare_forward(at_risk: ShardsAtRisk, tracer: ForwardTracer, shards: frozenset[ShardRef]) -> None:
    at_risk.add(shards, exact=True)
    tracer.start_span(shards)


def _keep_leases(process: _Process, spec: ModelSpec, batcher: MicroBatcher) -> LeaseKeeper:
    """Return the keeper of this worker's leases, which also announces the worker."""
    settings, store, metrics = process.settings, process.store, process.metrics
    slots = settings.worker_slots
    announcement = ledger.announce_worker(
        settings.model, process.worker, slots, spec.revision, model_facts(settings, spec)
    )
    leases = LeaseKeeper(
        store, partial(store.run, announcement), partial(_drop_shard, batcher, metrics), settings.lease_s
    )
    for priority in Priority:
        queue = naming.queue_name(settings.model, priority)
        metrics.slots.labels(priority.value).set(slots)
        metrics.held_shards.labels(priority.value).set_function(partial(leases.count_held, queue))
    return leases


def _drop_shard(batcher: MicroBatcher, metrics: WorkerMetrics, lease: Lease) -> None:
    if lease.end_reason == "lost":
        metrics.leases_lost.inc()
    batcher.drop(lease.message.job, lease.message.shard)


def _build_runner(
    process: _Process,
    engine: Engine,
    lifecycle: Lifecycle,
    at_risk: ShardsAtRisk,
    forward_tracer: ForwardTracer,
) -> ShardRunner:
    settings, codec = process.settings, make_codec(process.settings)
    limits = Limits(settings.max_document_windows, settings.max_document_entities)
    return ShardRunner(
        store=process.store,
        broker=clients.connect(settings.broker_url, settings.store_timeout_s, "gleaner-worker-push"),
        codec=codec,
        documents=DocumentRunner(
            batcher=lifecycle.batcher,
            tokenizer=engine,
            at_risk=at_risk,
            metrics=process.metrics,
            heartbeats=lifecycle.heartbeats,
            rules=CutRules(settings.close_reading, limits),
            budget_s=settings.document_budget_s,
        ),
        leases=lifecycle.leases,
        metrics=process.metrics,
        worker=process.worker,
        revision=engine.spec.revision,
        default_threshold=model_facts(settings, engine.spec).default_threshold,
        lease_ms=int(settings.lease_s * 1000),
        must_end=lifecycle.must_end,
        on_broken=_exit_broken,
        cache=_make_cache(process, engine.spec, codec) if settings.result_cache_ttl_s else None,
        redact_secret=settings.redact_key.get_secret_value() if settings.redact_key else "",
        shown_labels=frozenset(settings.metric_labels),
        tracer=forward_tracer.tracer,
        traces=forward_tracer.traces,
    )


def model_facts(settings: WorkerSettings, spec: ModelSpec) -> ModelFacts:
    """Return the limits and defaults of this worker's model, for clients."""
    threshold = spec.default_threshold if settings.model_threshold is None else settings.model_threshold
    return ModelFacts(
        words_per_window=spec.max_words,
        tokens_per_row=spec.max_row_tokens,
        words_per_entity=spec.max_width,
        default_threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
        tasks=spec.tasks,
        max_labels=spec.max_labels,
    )


def spare_slots(slots: int) -> int:
    """Return the slots of a queue that are kept for shards of a tenant that comes later."""
    return max(1, slots // SLOTS_PER_SPARE)


def _make_cache(process: _Process, spec: ModelSpec, codec: Codec) -> ResultCache:
    """Return the result cache, on a separate connection with a short timeout, keyed with all secrets."""
    settings = process.settings
    keys = [key.get_secret_value() if key else "" for key in (*settings.encryption_keys[:1], settings.redact_key)]
    return ResultCache(
        store=_connect_ledger(settings, "gleaner-worker-cache", min(TIMEOUT_S, settings.store_timeout_s)),
        codec=codec,
        ttl_s=settings.result_cache_ttl_s,
        secret="\n".join(keys).encode(),
        model=settings.model,
        spec=spec,
        sentence_pass=settings.close_reading,
        metrics=process.metrics,
    )


def _register_task(app: Celery, runner: ShardRunner) -> None:
    @app.task(name=celery_queues.EXTRACT_TASK, bind=True)
    def extract_shard(self: Task, job_id: str, shard: int, seq: int) -> str:  # type: ignore[type-arg]
        delivery = self.request.delivery_info or {}
        return runner.extract_shard(Message(str(delivery.get("routing_key", "")), job_id, shard, seq))


def _report_ready(lifecycle: Lifecycle, slots: int) -> None:
    lifecycle.set_ready()
    log.info("worker.ready", extra={"worker": process_name("worker"), "slots": slots})


def _deregister(process: _Process) -> None:
    try:
        process.store.run(ledger.deregister_worker(process.settings.model, process.worker))
    except LedgerUnavailableError as error:
        log.warning("worker.deregister_failed", extra={"reason": str(error)})  # its entry expires in 30 s


def _exit_broken() -> None:
    log.critical("worker.device_lost")
    os._exit(HUNG_EXIT_CODE)  # at once: a worker without its device would empty the queue into dead leases
