"""OpenTelemetry, which the extra `otel` installs: spans go to the collector that the standard OTEL_… variables name.

Only here is it known. What an exception says stays out of spans, for it could name a user."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from server import tracing
from server.tracing import OFF, Attributes


@asynccontextmanager
async def tracing_to_a_collector(version: str) -> AsyncIterator[None]:
    """At its end, what has not been sent yet is sent."""
    ours = Resource.create({SERVICE_NAME: "live-sessions", SERVICE_VERSION: version})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.begin(_Tracer(provider.get_tracer("live-sessions", version)))
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)


class _Tracer:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def whole(
        self, name: str, attributes: Attributes, headers: Mapping[str, str] | None
    ) -> AbstractContextManager[None]:
        if headers is None:
            return self._span(name, attributes, SpanKind.INTERNAL, Context())
        return self._span(name, attributes, SpanKind.SERVER, propagate.extract(headers, Context()))

    def part(self, name: str, attributes: Attributes) -> AbstractContextManager[None]:
        if not trace.get_current_span().is_recording():
            return OFF
        return self._span(name, attributes, SpanKind.CLIENT)

    def note(self, attributes: Attributes, *, failed: bool) -> None:
        span = trace.get_current_span()
        span.set_attributes(attributes)
        if failed:
            span.set_status(StatusCode.ERROR)

    def trace_id(self) -> str | None:
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    @contextmanager
    def _span(
        self, name: str, attributes: Attributes, kind: SpanKind, context: Context | None = None
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, context, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as problem:
                if kind is not SpanKind.SERVER:  # whether a call failed, its code tells
                    span.set_status(StatusCode.ERROR)
                    span.set_attribute("error.type", type(problem).__name__)
                raise
