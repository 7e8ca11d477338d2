"""The worker's composition root: settings in, a process that takes shards until SIGTERM out.

Start: probes, weights, warm-up, lease keeper, Celery. Stop, in the reverse order: Celery finishes what runs and
returns what it reserved, the micro-batcher runs dry, the worker leaves its model's list.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event, Thread, local
from time import monotonic

from celery import Celery, Task
from prometheus_client import CollectorRegistry

from jobs import ledger, naming
from jobs.codec import Codec, make_codec
from jobs.ledger import Ledger, LedgerUnavailableError, Message, ModelFacts
from jobs.observability import logs, tracing
from jobs.observability.metrics import WorkerMetrics, register_process_metrics
from jobs.observability.probes import ProbeServer
from jobs.observability.tracing import Tracer
from jobs.process import memory
from jobs.process.cpu import share_interpreter
from jobs.queue import celery_queues
from jobs.queue.consumer import process_name, run_consumer
from jobs.redis import clients
from jobs.schema import DEFAULT_THRESHOLD, Priority
from worker.batching.batcher import MicroBatcher
from worker.batching.observer import Observer
from worker.health import HUNG_EXIT_CODE, Health, Watchdog
from worker.protocols import Engine, ModelSpec, ShardRef
from worker.settings import WorkerSettings
from worker.shards.bounds import Limits
from worker.shards.crash_suspects import Blame
from worker.shards.leases import Lease, LeaseKeeper
from worker.shards.progress import Progress
from worker.shards.result_cache import TIMEOUT_S, ResultCache
from worker.shards.runner import Intake

log = logging.getLogger(__name__)

START_FAILED_EXIT_CODE = 78
"""EX_CONFIG: the model cannot be loaded; starting again will not help until somebody changes something."""
CUT_SHORT_EXIT_CODE = 75
"""EX_TEMPFAIL: the grace period was over before the drain; leases bring back what was held."""
SHIPPED = (Path(__file__).parent / "shipped", Path(__file__).parents[1] / "models")
"""Folders of the models that come with Gleaner: in a wheel; in a checkout or an image."""
GIVE_BACK_S = 10.0
"""Kept of the grace period for giving unfinished shards back."""

SPARE_SHARE = 4
"""Slots for which there is one spare: the ledger publishes as many shards of one tenant as it knows of slots, so
that a shard of another tenant finds a spare one at once."""

LoadEngine = Callable[[WorkerSettings], Engine]


def run(settings: WorkerSettings, load: LoadEngine) -> int:
    """Be a worker until SIGTERM; the exit code is 0 after a clean drain.

    Args:
        settings: read once, by the caller.
        load: brings the engine; `load_engine` in production.
    """
    logs.configure_logging(settings, "worker")
    share_interpreter()
    memory.configure_malloc()
    registry = CollectorRegistry()
    register_process_metrics(registry)
    metrics = WorkerMetrics(registry)
    health = Health(settings.hang_timeout_s)
    probes = ProbeServer(settings.metrics_host, settings.metrics_port, registry, health.alive, health.ready)
    probes.start()
    store = Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-worker"))
    try:
        engine, budget = _warm(settings, load, metrics)
    except Exception as error:  # noqa: BLE001  # whatever it is, the reason must reach those who wait for this model
        reason = f"{type(error).__name__}: {error}"  # no text of a user is in this process yet
        logs.log_failure(log, "model.load_failed", error, model=settings.model, reason=reason)
        _tell(store, settings.model, reason)
        probes.stop()
        return START_FAILED_EXIT_CODE
    exit_code = _serve(settings, engine, budget, store, metrics, health)
    probes.stop()
    return exit_code


def load_engine(settings: WorkerSettings) -> Engine:
    """The production engine: GLiNER, with weights from where the settings say, on the fastest runtime.

    Raises:
        ModelError: the weights are missing, broken, or carry pickles.
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
    )
    return engine.load_model(resolved, options)


def _warm(settings: WorkerSettings, load: LoadEngine, metrics: WorkerMetrics) -> tuple[Engine, int]:
    started = monotonic()
    engine = load(settings)
    budget = settings.microbatch_tokens or engine.warm_up()
    metrics.load_seconds.set(monotonic() - started)
    spec = engine.spec
    metrics.model.labels(settings.model, spec.revision, spec.runtime, spec.precision).set(1)
    log.info(
        "model.ready",
        extra={
            "model": settings.model,
            "revision": engine.spec.revision,
            "runtime": engine.spec.runtime,
            "precision": engine.spec.precision,
            "budget_tokens": budget,
            "seconds": round(monotonic() - started, 2),
        },
    )
    return engine, budget


def _tell(store: Ledger, model: str, reason: str) -> None:
    try:
        store.run(ledger.report_model_error(model, reason[:500]))
    except LedgerUnavailableError as error:
        log.warning("model.trouble_untold", extra={"reason": str(error)})


def _serve(
    settings: WorkerSettings,
    engine: Engine,
    budget: int,
    store: Ledger,
    metrics: WorkerMetrics,
    health: Health,
) -> int:
    name = process_name("worker")
    revision, slots = engine.spec.revision, settings.worker_slots
    draining, finished, too_late = Event(), Event(), Event()
    # A restarted container has its predecessor's name and pid, but must not answer for its leases and marks.
    incarnation = f"{name}#{secrets.token_hex(4)}"
    marks = Ledger(clients.connect(settings.redis_url, settings.store_timeout_s, "gleaner-worker-marks"))

    def mark(shards: frozenset[ShardRef], left: frozenset[ShardRef]) -> None:
        marks.run(ledger.set_crash_suspects(incarnation, shards, left))

    blame, progress = Blame(mark), Progress()
    tracer, traces = tracing.start_tracing(settings, "worker"), dict[ShardRef, str]()
    forwards = _Forwards(tracer, traces)

    def before_forward(shards: frozenset[ShardRef]) -> None:
        blame.enter(shards, exactly=True)
        forwards.begin(shards)

    batcher = MicroBatcher(engine, budget, before_forward=before_forward, observer=_Numbers(metrics, forwards.end))

    def drop(lease: Lease) -> None:
        if lease.ended == "lost":
            metrics.leases_lost.inc()
        batcher.drop(lease.message.job, lease.message.shard)

    facts = model_facts(settings, engine.spec)

    def seen() -> None:
        store.run(ledger.announce_worker(settings.model, incarnation, slots, revision, facts))

    def end_broken() -> None:
        log.critical("worker.device_lost")
        os._exit(HUNG_EXIT_CODE)  # at once: a worker without its device would empty the queue into dead leases

    leases = LeaseKeeper(store, seen, drop, settings.lease_s)
    metrics.budget.set(budget)
    for priority in Priority:
        queue = naming.queue_name(settings.model, priority)
        metrics.slots.labels(priority.value).set(slots)
        metrics.held_shards.labels(priority.value).set_function(partial(leases.held, queue))
    codec = make_codec(settings)
    intake = Intake(
        store=store,
        broker=clients.connect(settings.broker_url, settings.store_timeout_s, "gleaner-worker-push"),
        codec=codec,
        batcher=batcher,
        tokenizer=engine,
        leases=leases,
        metrics=metrics,
        worker=incarnation,
        revision=revision,
        default_threshold=facts.default_threshold,
        lease_ms=int(settings.lease_s * 1000),
        draining=too_late,
        blame=blame,
        on_broken=end_broken,
        close_reading=settings.close_reading,
        limits=Limits(settings.max_document_windows, settings.max_document_entities),
        budget_s=settings.document_budget_s,
        progress=progress,
        cache=_cache(settings, engine.spec, codec, metrics) if settings.result_cache_ttl_s else None,
        redact_secret=settings.redact_key.get_secret_value() if settings.redact_key else "",
        shown_labels=settings.metric_labels,
        tracer=tracer,
        traces=traces,
    )
    app = celery_queues.build_celery_app(
        settings.broker_url, celery_queues.model_queues([settings.model]), "worker"
    )
    _register(app, intake)

    def give_back() -> None:
        """Near the end of the grace period what has not started goes back to its queue; at its end, so be it."""
        draining.wait()
        reserve_s = min(GIVE_BACK_S, settings.shutdown_grace_s)
        if finished.wait(settings.shutdown_grace_s - reserve_s):
            return
        log.warning("drain.giving_back", extra={"shards": leases.held()})
        leases.end_all()
        too_late.set()
        if not finished.wait(reserve_s):
            log.error("drain.cut_short", extra={"shards": leases.held()})
            os._exit(CUT_SHORT_EXIT_CODE)  # a store that does not answer can hold Celery up for minutes

    def stop() -> None:  # in a signal handler
        health.set_draining()
        draining.set()

    def ready() -> None:
        memory.freeze_gc_baseline()
        health.set_ready()
        metrics.ready.set(1)
        log.info("worker.ready", extra={"worker": name, "slots": slots})

    watchdog = Watchdog(health, min(5.0, settings.hang_timeout_s))
    Thread(target=give_back, name="drain", daemon=True).start()
    batcher.start()
    health.watch(batcher, progress)
    leases.start()
    watchdog.start()
    exit_code = run_consumer(app, name, slots + spare_slots(slots), on_ready=ready, on_stop=stop)
    metrics.ready.set(0)
    batcher.close(timeout=GIVE_BACK_S)
    watchdog.stop()
    leases.stop()
    _leave(store, settings.model, incarnation)
    finished.set()
    return exit_code


def model_facts(settings: WorkerSettings, spec: ModelSpec) -> ModelFacts:
    """Return what this worker's model can do, for clients to know."""
    threshold = spec.default_threshold if settings.model_threshold is None else settings.model_threshold
    return ModelFacts(
        words_per_window=spec.max_words,
        tokens_per_row=spec.max_row_tokens,
        words_per_entity=spec.max_width,
        default_threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
    )


def _cache(settings: WorkerSettings, spec: ModelSpec, codec: Codec, metrics: WorkerMetrics) -> ResultCache:
    """The result cache, with a connection of its own that gives up soon, keyed with every secret there is."""
    patience_s = min(TIMEOUT_S, settings.store_timeout_s)
    keys = [key.get_secret_value() if key else "" for key in (*settings.encryption_keys[:1], settings.redact_key)]
    return ResultCache(
        Ledger(clients.connect(settings.redis_url, patience_s, "gleaner-worker-cache")),
        codec,
        settings.result_cache_ttl_s,
        secret="\n".join(keys).encode(),
        model=settings.model,
        spec=spec,
        close_reading=settings.close_reading,
        metrics=metrics,
    )


def _register(app: Celery, intake: Intake) -> None:
    @app.task(name=celery_queues.EXTRACT_TASK, bind=True)
    def extract_shard(self: Task, job_id: str, shard: int, seq: int) -> str:  # type: ignore[type-arg]
        taken_from = self.request.delivery_info or {}
        return intake.extract_shard(Message(str(taken_from.get("routing_key", "")), job_id, shard, seq))


def _leave(store: Ledger, model: str, name: str) -> None:
    try:
        store.run(ledger.deregister_worker(model, name))
    except LedgerUnavailableError as error:
        log.warning("worker.left_unsaid", extra={"reason": str(error)})  # its entry lapses in half a minute


class _Forwards(local):
    """A span for each forward pass, linked to the traces of all its shards. Each model thread has its own."""

    def __init__(self, tracer: Tracer, traces: Mapping[ShardRef, str]) -> None:
        self._tracer = tracer
        self._traces = traces
        self._end: Callable[[], None] = lambda: None

    def begin(self, shards: frozenset[ShardRef]) -> None:
        self._end()  # one that failed was never ended
        if self._tracer.enabled:
            links = [self._traces[shard] for shard in sorted(shards) if shard in self._traces]
            self._end = self._tracer.start_span("microbatch", links, shards=len(shards))

    def end(self) -> None:
        self._end()
        self._end = lambda: None


class _Numbers(Observer):
    """The micro-batcher's numbers as Prometheus metrics."""

    def __init__(self, metrics: WorkerMetrics, forward_done: Callable[[], None]) -> None:
        self._metrics = metrics
        self._forward_done = forward_done

    def microbatch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        self._metrics.microbatch_windows.observe(windows)
        self._metrics.microbatch_jobs.observe(jobs)
        self._metrics.microbatch_tokens.labels("real").inc(real)
        self._metrics.microbatch_tokens.labels("padded").inc(padded)

    def stage(self, stage: str, seconds: float) -> None:
        self._metrics.stage.labels(stage).observe(seconds)
        if stage == "forward":
            self._forward_done()

    def out_of_memory(self, action: str) -> None:
        self._metrics.oom.labels(action).inc()


def spare_slots(slots: int) -> int:
    """Return the slots of a queue that are kept for shards of a tenant that comes later."""
    return max(1, slots // SPARE_SHARE)
