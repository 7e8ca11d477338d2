"""Traces and metrics of the micro-batcher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread

from prometheus_client import CollectorRegistry

from jobs.observability.metrics import WorkerMetrics
from jobs.observability.tracing import Tracer
from worker.protocols import ShardRef
from worker.telemetry import ForwardTracer, MetricsObserver

TRACES = {ShardRef("a", 0): "trace a", ShardRef("b", 1): "trace b"}


class RecordingTracer(Tracer):
    """Records spans in place of sending them."""

    enabled = True

    def __init__(self) -> None:
        super().__init__()
        self.links: list[list[str]] = []
        self.open = 0

    def start_span(self, name: str, links: Iterable[str] = (), **facts: str | int | float) -> Callable[[], None]:
        """Record a span."""
        self.links.append(list(links))
        self.open += 1

        def end() -> None:
            self.open -= 1

        return end


def test_a_forward_pass_is_a_span_linked_to_its_shards() -> None:
    """To those that are traced; a pass that failed ends when the next one of its thread begins."""
    recording = RecordingTracer()
    tracer = ForwardTracer(recording, dict(TRACES))
    tracer.start_span(frozenset({ShardRef("b", 1), ShardRef("a", 0), ShardRef("c", 2)}))
    assert (recording.links, recording.open) == ([["trace a", "trace b"]], 1)
    tracer.start_span(frozenset({ShardRef("c", 2)}))
    assert (recording.links[1], recording.open) == ([], 1)
    tracer.end_span()
    tracer.end_span()
    assert recording.open == 0


def test_threads_do_not_end_each_others_spans() -> None:
    """Two lanes run passes at the same time; the traces are the same for both."""
    recording = RecordingTracer()
    tracer = ForwardTracer(recording, dict(TRACES))
    tracer.start_span(frozenset({ShardRef("a", 0)}))

    def run_pass() -> None:
        tracer.end_span()
        tracer.start_span(frozenset({ShardRef("b", 1)}))

    other = Thread(target=run_pass)
    other.start()
    other.join()
    assert (recording.links, recording.open) == ([["trace a"], ["trace b"]], 2)


def test_a_span_ends_with_its_forward_pass_and_not_with_another_stage() -> None:
    """Each stage's seconds, and the tokens with and without padding, are metrics."""
    ended: list[bool] = []
    registry = CollectorRegistry()
    observer = MetricsObserver(WorkerMetrics(registry), lambda: ended.append(True))
    observer.record_stage("collate", 0.5)
    assert ended == []
    observer.record_stage("forward", 0.5)
    assert ended == [True]
    observer.record_batch(3, 2, 100, 120)
    values = [
        registry.get_sample_value("gleaner_microbatch_tokens_total", {"kind": kind}) for kind in ("real", "padded")
    ]
    assert values == [100, 120]
