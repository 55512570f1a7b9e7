"""What the log, the metrics and the trace know of a call: around everything that the other wrapper does."""

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import grpc
from grpc.aio import AbortError, ServicerContext

from server import logs, metrics, tracing
from server.rpc.methods import Method

REQUEST_ID = "x-request-id"
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Codes that make a call's span a failed one: the others are the caller's doing."""

Context = ServicerContext[Any, Any]


def announce(service: str, methods: Mapping[str, Method]) -> None:
    """Nothing has happened yet: Prometheus sees no increase in a counter that begins with 1."""
    for name, method in methods.items():
        labels = (metrics.SERVER_STREAM if method.streams else metrics.UNARY, service, name)
        metrics.started(*labels)
        for code in grpc.StatusCode:
            metrics.HANDLED.labels(*labels, code.name)


def observed(path: str, handler: Any) -> Any:
    """The handler of a method, /package.Service/Method, whose calls are told of from beginning to end."""
    service, method = path[1:].split("/")
    behaviour = "unary_unary" if handler.unary_unary else "unary_stream"
    call = getattr(handler, behaviour)
    labels = (metrics.UNARY if handler.unary_unary else metrics.SERVER_STREAM, service, method)
    started = metrics.started(*labels)
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}

    async def seen(data: bytes, context: Context) -> Any:
        began = time.monotonic()
        started.inc()
        headers: dict[str, Any] = dict(context.invocation_metadata() or ())
        line = logs.Call(_request_id(headers, context), method)
        logs.belongs_to(line)
        code = "CANCELLED"
        try:
            with tracing.whole(path[1:], attributes, headers):
                line.trace_id = tracing.trace_id()
                try:
                    answer = await call(data, context)
                    code = "OK"
                except AbortError:
                    code = context.code().name
                    raise
                finally:
                    tracing.note({"rpc.grpc.status_code": code}, failed=code in FAULTS)
            return answer
        finally:
            calls, seconds = metrics.handled(*labels, code)
            calls.inc()
            seconds.observe(time.monotonic() - began)

    return handler._replace(**{behaviour: seen})


def noted(handler: Any) -> Any:
    """The handler, whose requests leave the session that they name where log lines find it."""
    read = handler.request_deserializer

    def note(data: bytes) -> Any:
        request = read(data)
        logs.concerns(getattr(request, "session_name", None))
        return request

    return handler._replace(request_deserializer=note)


def _request_id(headers: dict[str, Any], context: Context) -> str:
    """The caller's, or Envoy's; else a new one, which is returned."""
    id = headers.get(REQUEST_ID)
    if isinstance(id, str) and logs.PLAIN.fullmatch(id):
        return id
    id = str(uuid4())
    context.set_trailing_metadata(((REQUEST_ID, id),))
    return id
