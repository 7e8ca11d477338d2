"""Reports the micro-batcher's work as metrics and traces."""

from __future__ import annotations

from collections.abc import Callable
from threading import local

from jobs.observability.metrics import WorkerMetrics
from jobs.observability.tracing import Tracer
from worker.batching.observer import Observer
from worker.protocols import LabelCounts, ShardRef


class ForwardTracer(local):
    """A trace span for each forward pass, linked to the traces of its shards. Each model thread has its own.

    Args:
        traces: the trace of each shard that runs now; the shard runner fills it.
    """

    def __init__(self, tracer: Tracer, traces: dict[ShardRef, str]) -> None:
        self.tracer = tracer
        self.traces = traces
        self._end_span: Callable[[], None] = lambda: None

    def start_span(self, shards: frozenset[ShardRef]) -> None:
        """Start the span of a forward pass."""
        self._end_span()  # a pass that failed has not ended its span
        if self.tracer.enabled:
            links = [self.traces[shard] for shard in sorted(shards) if shard in self.traces]
            self._end_span = self.tracer.start_span("microbatch", links, shards=len(shards))

    def end_span(self) -> None:
        """End the span of this thread's forward pass."""
        self._end_span()
        self._end_span = lambda: None


class MetricsObserver(Observer):
    """The micro-batcher's numbers as Prometheus metrics."""

    def __init__(self, metrics: WorkerMetrics, on_forward: Callable[[], None]) -> None:
        self._metrics = metrics
        self._on_forward = on_forward

    def record_batch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """Observe the sizes of a micro-batch."""
        self._metrics.microbatch_windows.observe(windows)
        self._metrics.microbatch_jobs.observe(jobs)
        self._metrics.microbatch_tokens.labels("real").inc(real)
        self._metrics.microbatch_tokens.labels("padded").inc(padded)

    def record_stage(self, stage: str, seconds: float) -> None:
        """Observe the duration of a stage; end the trace span of a forward pass."""
        self._metrics.stage.labels(stage).observe(seconds)
        if stage == "forward":
            self._on_forward()

    def record_labels(self, counts: LabelCounts) -> None:
        """Count vectors of labels."""
        self._metrics.label_vectors.labels("computed").inc(counts.computed)
        self._metrics.label_vectors.labels("reused").inc(counts.reused)

    def record_out_of_memory(self, action: str) -> None:
        """Count a lack of device memory."""
        self._metrics.oom.labels(action).inc()
