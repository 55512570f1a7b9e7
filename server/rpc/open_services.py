"""What anybody may ask of a gRPC server: its health, and its contract by reflection."""

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from live_sessions.v1 import errors_pb2  # so that reflection knows its reasons, which no message names
from server.rpc.methods import SERVICE

V1ALPHA = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
V1 = V1ALPHA.replace("v1alpha", "v1")
SERVICES = (SERVICE, health.SERVICE_NAME, V1, V1ALPHA)
CONTRACT = (errors_pb2.DESCRIPTOR,)


class Health(HealthServicer):  # type: ignore[misc]
    async def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:
        checks = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=checks)


class Reflection(ReflectionServicer):  # type: ignore[misc]
    """The library's, which also finds methods: protobuf's pool does not know them by name."""

    def _file_containing_symbol(self, request: Any, symbol: str) -> Any:
        answer = super()._file_containing_symbol(request, symbol)
        service, _, method = symbol.rpartition(".")
        if answer.HasField("error_response") and service in self._service_names:
            known = self._pool.FindServiceByName(service).methods_by_name
            return super()._file_containing_symbol(request, service) if method in known else answer
        return answer


def add_open_services(server: grpc.aio.Server) -> Health:
    """The health, to be set. Reflection is served under both its names, whose messages are the same on the wire."""
    checks = Health()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    _describe_v1()
    method = grpc.stream_stream_rpc_method_handler(
        Reflection(SERVICES).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1, V1ALPHA):
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))
    return checks


def _describe_v1() -> None:
    """The library has v1alpha's description only."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = json_format.MessageToJson(file).replace("v1alpha", "v1")
    json_format.Parse(text, file := descriptor_pb2.FileDescriptorProto())
    descriptor_pool.Default().Add(file)
