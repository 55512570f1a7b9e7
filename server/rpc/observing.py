"""What the log, the metrics and the trace know of a call: around everything that the other wrapper does."""

import random
import time
from asyncio import CancelledError
from collections.abc import Mapping
from typing import Any

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
    if tracing.is_on():
        call = _traced(service, method, call)
    labels = (metrics.UNARY if handler.unary_unary else metrics.SERVER_STREAM, service, method)
    started = metrics.started(*labels)

    async def seen(data: bytes, context: Context) -> Any:
        began = time.monotonic()
        started.inc()
        logs.belongs_to(logs.Call(_request_id(context), method))
        code = "OK"
        try:
            return await call(data, context)
        except BaseException as problem:
            code = _code(problem, context)
            raise
        finally:
            calls, seconds = metrics.handled(*labels, code)
            calls.inc()
            seconds.observe(time.monotonic() - began)

    return handler._replace(**{behaviour: seen})


def _traced(service: str, method: str, call: Any) -> Any:
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}

    async def traced(data: bytes, context: Context) -> Any:
        headers: dict[str, Any] = dict(context.invocation_metadata() or ())
        with tracing.whole(f"{service}/{method}", attributes, headers):
            logs.belongs_to_trace(tracing.trace_id())
            code = "OK"
            try:
                return await call(data, context)
            except BaseException as problem:
                code = _code(problem, context)
                raise
            finally:
                tracing.note({"rpc.grpc.status_code": code}, failed=code in FAULTS)

    return traced


def noted(handler: Any) -> Any:
    """The handler, whose requests leave the session that they name where log lines find it."""
    read = handler.request_deserializer

    def note(data: bytes) -> Any:
        request = read(data)
        logs.concerns(getattr(request, "session_name", None))
        return request

    return handler._replace(request_deserializer=note)


def _code(problem: BaseException, context: Context) -> str:
    if isinstance(problem, AbortError):
        return str(context.code().name)
    return "CANCELLED" if isinstance(problem, CancelledError) else "UNKNOWN"


def _request_id(context: Context) -> str:
    """The caller's, or Envoy's; else a new one, which is returned."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and logs.PLAIN.fullmatch(value):
            return value
    id = f"{random.getrandbits(128):032x}"  # no secret; uuid4 would cost a call 8 µs
    context.set_trailing_metadata(((REQUEST_ID, id),))
    return id
