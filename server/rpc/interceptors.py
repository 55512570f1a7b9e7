"""The one wrapper around every call: it bounds the call's time, authenticates, and turns errors into statuses."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import ServicerContext

from server import deadline, errors
from server.rpc.auth import Authenticator
from server.rpc.methods import METHODS, SERVICE, Access
from storage.errors import StorageOverloaded, StorageUnavailable

logger = logging.getLogger(__name__)

PATH = f"/{SERVICE}/"
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
MAX_CALLS = 2000
"""Calls that one process works on at once."""
RETRY_AFTER = 1
DETAILS = "grpc-status-details-bin"

CODES = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ServiceError: grpc.StatusCode.INTERNAL,
}

Handler = Callable[[Any, ServicerContext[Any, Any]], Awaitable[Any]]


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._calls = 0

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        wrapped = self._wrapped.get(details.method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        wrapped = grpc.unary_unary_rpc_method_handler(
            self._wrap(details.method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        self._wrapped[details.method] = wrapped
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        name = method.removeprefix(PATH)
        access = METHODS[name].access
        signed_in = access not in (Access.PUBLIC, Access.DAILY)

        async def call(request: Any, context: ServicerContext[Any, Any]) -> Any:
            started = time.monotonic()
            self._calls += 1
            try:
                if self._calls > MAX_CALLS:
                    raise errors.Overloaded("Too many calls at once")
                async with deadline.begin(context.time_remaining()):
                    if signed_in:
                        await self._authenticator.admit(access, _authorization(context))
                    return await handler(request, context)
            except Exception as problem:
                error = _ours(name, problem, time.monotonic() - started)
            finally:
                self._calls -= 1
            return await _abort(context, error)

        return call


def _authorization(context: ServicerContext[Any, Any]) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return str(value)
    return None


def _ours(method: str, problem: Exception, seconds: float) -> errors.ServiceError:
    """The error that the caller sees. What they need not know goes to the log."""
    if isinstance(problem, StorageOverloaded):
        problem = errors.Overloaded("Too many calls at once")
    if isinstance(problem, errors.ServiceError) and not isinstance(problem, errors.Unavailable):
        return problem
    if isinstance(problem, errors.Unavailable | StorageUnavailable | TimeoutError):
        what = problem if str(problem) else "out of time"
        logger.warning("%s unavailable after %.3f s: %s", method, seconds, what)
        return errors.Unavailable(METHODS[method].failure)
    logger.error("%s failed after %.3f s", method, seconds, exc_info=problem)
    return errors.ServiceError(METHODS[method].failure)


async def _abort(context: ServicerContext[Any, Any], error: errors.ServiceError) -> NoReturn:
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    info = error_details_pb2.ErrorInfo(reason=f"ERROR_REASON_{error.reason}", domain="live-sessions")
    status = status_pb2.Status(code=code.value[0], message=error.message, details=[_packed(info)])
    if isinstance(error, errors.InvalidArgument) and error.fields:
        violation = error_details_pb2.BadRequest.FieldViolation
        violations = [violation(field=field, description=error.message) for field in error.fields]
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    if isinstance(error, errors.Unavailable | errors.Overloaded):
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER))))
    await context.abort(code, error.message, trailing_metadata=((DETAILS, status.SerializeToString()),))


def _packed(detail: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
