"""The one wrapper around every call: it bounds the call's time, authenticates, and turns errors into statuses."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import ServicerContext

from server import deadline, errors
from server.rpc.auth import Authenticator
from server.rpc.methods import METHODS, SERVICE, Access
from server.rpc.observing import announce, noted, observed
from storage.errors import StorageOverloaded, StorageUnavailable

logger = logging.getLogger(__name__)

PATH = f"/{SERVICE}/"
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
MAX_CALLS = 10_000
"""Calls that one process works on at once: as many students as may press Join at the same moment."""
MAX_STREAMS = 6_000
"""Streams that one process keeps at once."""
TAKEN = 5.0
"""Seconds in which a client takes a message of a stream, or is too slow."""
TOLD = 1.0
"""Seconds in which the client of a stream learns of its end, or nobody waits for it any more."""
RETRY_AFTER = 1
DETAILS = "grpc-status-details-bin"
UNREADABLE = "The request cannot be read"

CODES = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StreamEnded: grpc.StatusCode.UNAVAILABLE,
    errors.SlowReader: grpc.StatusCode.ABORTED,
    errors.ServiceError: grpc.StatusCode.INTERNAL,
}

Context = ServicerContext[Any, Any]
RpcMethodHandler = Any
"""grpc.RpcMethodHandler, as grpc.aio has it: its behaviours are coroutines, which its types do not know."""


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._wrapped: dict[str, RpcMethodHandler] = {}
        self._calls = 0
        self._streams = 0
        self.last_call = 0.0
        """When it came, by time.monotonic()."""
        announce(SERVICE, METHODS)

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        wrapped = self._wrapped.get(details.method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(details)
        if handler is None:
            return None
        if details.method.startswith(OPEN_SERVICES):
            wrapped = _readable(handler)
        else:
            wrapped = observed(details.method, self._wrap(details.method, noted(handler)))
        self._wrapped[details.method] = wrapped
        return wrapped

    def _wrap(self, method: str, handler: RpcMethodHandler) -> RpcMethodHandler:
        name = method.removeprefix(PATH)
        return self._stream(name, handler) if METHODS[name].streams else self._unary(name, handler)

    def _unary(self, name: str, handler: RpcMethodHandler) -> RpcMethodHandler:
        access = METHODS[name].access
        signed_in = access not in (Access.PUBLIC, Access.DAILY)
        read, behaviour = handler.request_deserializer, handler.unary_unary

        async def call(data: bytes, context: Context) -> Any:
            self.last_call = started = time.monotonic()
            allowed = context.time_remaining()
            self._calls += 1
            try:
                if self._calls > MAX_CALLS:
                    raise errors.Overloaded("Too many calls at once")
                async with deadline.begin(allowed):
                    if signed_in:
                        await self._authenticator.admit(access, _authorization(context))
                    return await behaviour(read(data), context)
            except Exception as problem:
                impatient = allowed is not None and allowed < deadline.CALL
                error = _ours(name, problem, time.monotonic() - started, impatient)
            finally:
                self._calls -= 1
            return await _abort(context, error)

        return grpc.unary_unary_rpc_method_handler(call, response_serializer=handler.response_serializer)

    def _stream(self, name: str, handler: RpcMethodHandler) -> RpcMethodHandler:
        """The servicer makes the bytes of its messages itself, as many clients get the same. Only the time to the first
        message is bounded."""
        read, behaviour = handler.request_deserializer, handler.unary_stream

        async def call(data: bytes, context: Context) -> None:
            self.last_call = started = time.monotonic()
            self._streams += 1
            try:
                if self._streams > MAX_STREAMS:
                    raise errors.Overloaded("Too many streams at once")
                async with deadline.begin(None) as limit:
                    await self._authenticator.admit(METHODS[name].access, _authorization(context))
                    async with aclosing(behaviour(read(data), context)) as messages:
                        async for message in messages:
                            limit.reschedule(None)
                            await _send(context, message)
                return
            except Exception as problem:
                error = _ours(name, problem, time.monotonic() - started, impatient=False)
            finally:
                self._streams -= 1
            with suppress(TimeoutError):
                async with asyncio.timeout(TOLD):
                    await _abort(context, error)

        return grpc.unary_stream_rpc_method_handler(call)


async def _send(context: Context, message: bytes) -> None:
    try:
        async with asyncio.timeout(TAKEN):
            await context.write(message)
    except TimeoutError:
        raise errors.SlowReader("The client does not read") from None


def _readable(handler: RpcMethodHandler) -> RpcMethodHandler:
    """Health and reflection as they are, except that what they cannot read is the caller's error, and not one of
    grpc.aio's with the name of a Python class."""
    read = handler.request_deserializer
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_stream

    async def call(data: bytes, context: Context) -> Any:
        try:
            request = read(data)
        except DecodeError:
            return await _abort(context, errors.InvalidArgument(UNREADABLE))
        return await behaviour(request, context)

    async def converse(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        try:
            async for answer in behaviour((read(data) async for data in messages), context):
                yield answer
        except DecodeError:
            await _abort(context, errors.InvalidArgument(UNREADABLE))

    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(call, response_serializer=handler.response_serializer)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(call, response_serializer=handler.response_serializer)
    return grpc.stream_stream_rpc_method_handler(converse, response_serializer=handler.response_serializer)


def _authorization(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return str(value)
    return None


def _ours(method: str, problem: Exception, seconds: float, impatient: bool) -> errors.ServiceError:
    """The error that the caller sees. What they need not know goes to the log; that a client gave less time than a call
    may take, and that it was too little, is no warning."""
    if isinstance(problem, StorageOverloaded):
        problem = errors.Overloaded("Too many calls at once")
    if isinstance(problem, DecodeError):
        problem = errors.InvalidArgument(UNREADABLE)
    if isinstance(problem, errors.ServiceError) and not isinstance(problem, errors.Unavailable | errors.Internal):
        return problem
    if isinstance(problem, errors.Unavailable | StorageUnavailable | TimeoutError):
        level = logging.DEBUG if impatient and isinstance(problem, TimeoutError) else logging.WARNING
        what = problem if str(problem) else "out of time"
        logger.log(level, "%s unavailable after %.3f s: %s", method, seconds, what)
        return errors.Unavailable(METHODS[method].failure)
    logger.error("%s failed after %.3f s", method, seconds, exc_info=problem)
    return errors.ServiceError(METHODS[method].failure)


async def _abort(context: Context, error: errors.ServiceError) -> NoReturn:
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    info = error_details_pb2.ErrorInfo(reason=f"ERROR_REASON_{error.reason}", domain="live-sessions")
    status = status_pb2.Status(code=code.value[0], message=error.message, details=[_packed(info)])
    if isinstance(error, errors.InvalidArgument) and error.fields:
        violation = error_details_pb2.BadRequest.FieldViolation
        violations = [violation(field=field, description=error.message) for field in error.fields]
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    if isinstance(error, errors.Unavailable | errors.Overloaded | errors.StreamEnded):
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER))))
    trailing = (*(context.trailing_metadata() or ()), (DETAILS, status.SerializeToString()))
    await context.abort(code, error.message, trailing_metadata=trailing)


def _packed(detail: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
