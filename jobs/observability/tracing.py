"""Optional tracing: `traceparent` in, OpenTelemetry spans out. When off (the default) it imports nothing.

A span holds ids and sizes, never a text, a label or an exception's message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any

from jobs.observability.logs import bind_fields
from jobs.settings import Settings

log = logging.getLogger(__name__)

_MAX_LINKS = 64


class Tracer:
    """Creates spans.

    Args:
        tracer: OpenTelemetry's tracer, or None to create none.
    """

    def __init__(self, tracer: Any = None) -> None:
        self._tracer = tracer

    @property
    def enabled(self) -> bool:
        """True if spans are created."""
        return self._tracer is not None

    @contextmanager
    def span(
        self,
        name: str,
        parent: str = "",
        links: Iterable[str] = (),
        *,
        outgoing: bool = False,
        **facts: str | int | float,
    ) -> Iterator[str]:
        """Trace the block as a span; its log records carry the trace id.

        Args:
            name: name of the span.
            parent: W3C traceparent of the parent span, "" to begin a trace.
            links: traceparents of linked spans.
            outgoing: the block is a call to another service (a client span).
            facts: attributes.

        Yields:
            The span's traceparent, to be passed on; `parent` if tracing is off.
        """
        if self._tracer is None:
            with _bind_trace_id(parent):
                yield parent
            return
        from opentelemetry import trace

        with self._tracer.start_as_current_span(
            name,
            context=_parse_context(parent) if parent else None,
            kind=trace.SpanKind.CLIENT if outgoing else trace.SpanKind.INTERNAL,
            links=_links(links),
            attributes=facts,
            record_exception=False,  # its message may quote a text
            set_status_on_exception=False,
        ) as span:
            try:
                traceparent = _format_traceparent(span.get_span_context())
                with _bind_trace_id(traceparent):
                    yield traceparent
            except BaseException as error:
                span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
                raise

    def annotate(self, error: str = "", **facts: str | int | float) -> None:
        """Add attributes to the current span.

        Args:
            error: an error code, which marks the span as failed; "" for none.
            facts: attributes.
        """
        if self._tracer is None:
            return
        from opentelemetry import trace

        span = trace.get_current_span()
        span.set_attributes(facts)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(trace.StatusCode.ERROR, error)

    def start_span(self, name: str, links: Iterable[str] = (), **facts: str | int | float) -> Callable[[], None]:
        """Start a span in a new trace; return a function that ends it."""
        if self._tracer is None:
            return lambda: None
        end: Callable[[], None] = self._tracer.start_span(name, links=_links(links), attributes=facts).end
        return end


def start_tracing(settings: Settings, service: str) -> Tracer:
    """Return the process's tracer, which exports by OTLP over HTTP if GLEANER_TRACE_ENDPOINT is set.

    Without the extra `otel` the process runs, logs an error and exports nothing: traces are no reason to be down.
    """
    if not settings.trace_endpoint:
        return Tracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        remedy = "install gleaner-ner[otel], build the image with otel in EXTRAS, or unset GLEANER_TRACE_ENDPOINT"
        log.error("tracing.not_installed", extra={"missing": str(error.name), "remedy": remedy})
        return Tracer()

    provider = TracerProvider(resource=Resource.create({"service.name": f"gleaner-{service}"}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.trace_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return Tracer(provider.get_tracer("gleaner"))


def _bind_trace_id(traceparent: str) -> AbstractContextManager[None]:
    return bind_fields(trace_id=traceparent[3:35] or None) if traceparent else nullcontext()


def _links(traceparents: Iterable[str]) -> list[Any]:
    from opentelemetry import trace

    spans = (trace.get_current_span(_parse_context(parent)) for parent in islice(traceparents, _MAX_LINKS))
    return [trace.Link(span.get_span_context()) for span in spans if span.get_span_context().is_valid]


def _parse_context(traceparent: str) -> Any:
    """Return a context whose current span is the remote one of a traceparent."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _format_traceparent(context: Any) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
