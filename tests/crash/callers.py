"""The API as its callers use it, over REST or gRPC through Envoy: what was answered, and whether that is an answer."""

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.protobuf.json_format import MessageToDict, ParseDict

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack

TIMEOUT = 16.0
"""Seconds: a little more than Envoy takes."""
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
REST = {
    "create": ("POST", "/sessions"),
    "delete": ("DELETE", "/sessions/{}"),
    "start": ("POST", "/sessions/{}/start-recording"),
    "stop": ("POST", "/sessions/{}/stop-recording"),
    "token": ("POST", "/sessions/{}/token"),
    "remove": ("POST", "/sessions/{}/participants/{}/remove"),
    "readmit": ("POST", "/sessions/{}/participants/{}/readmit"),
    "permit": ("PATCH", "/sessions/{}/participants/{}"),
    "mute": ("POST", "/sessions/{}/mute"),
    "resize": ("PATCH", "/sessions/{}"),
}
GRPC = {
    "create": ("CreateLiveSession", rpc.CreateLiveSessionRequest),
    "delete": ("DeleteLiveSession", rpc.DeleteLiveSessionRequest),
    "start": ("StartSessionRecording", rpc.StartSessionRecordingRequest),
    "stop": ("StopSessionRecording", rpc.StopSessionRecordingRequest),
    "token": ("GetSessionToken", rpc.GetSessionTokenRequest),
}


@dataclass(frozen=True)
class Answer:
    """`body` when it was acknowledged; `refusal` when it was understood and refused; neither: nobody knows."""

    body: dict[str, Any] | None = None
    refusal: str | None = None


class Callers:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._http = httpx.Client(base_url=stack.rest_url, timeout=TIMEOUT, trust_env=False)
        self._channel = grpc.insecure_channel(stack.grpc_proxy, [("grpc.enable_http_proxy", 0)])
        self._stub = LiveSessionsStub(self._channel)

    def close(self) -> None:
        self._http.close()
        self._channel.close()

    def call(
        self,
        verb: str,
        user: str,
        role: str,
        *,
        over_grpc: bool,
        room_name: str = "",
        whom: str = "",
        body: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Answer:
        """Over gRPC where it is asked for and there is a way to."""
        headers = {"authorization": f"Bearer {self._stack.token(user, user, role)}"}
        if key is not None:
            headers["idempotency-key"] = key
        if over_grpc and verb in GRPC:
            return self._over_grpc(verb, body if verb == "create" else {"sessionName": room_name}, headers)
        return self._over_rest(verb, REST[verb][1].format(room_name, whom), body, headers)

    def _over_rest(self, verb: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        try:
            answer = self._http.request(REST[verb][0], path, json=body, headers=headers)
        except httpx.TransportError:
            return Answer()
        if answer.is_success:
            return Answer(body=answer.json())
        if answer.status_code >= 500 or answer.status_code == 429:
            return Answer()
        return Answer(refusal=answer.json().get("message") or answer.text)

    def _over_grpc(self, verb: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        method, request = GRPC[verb]
        try:
            answer = getattr(self._stub, method)(
                ParseDict(body, request()), metadata=list(headers.items()), timeout=TIMEOUT
            )
        except grpc.RpcError as error:
            return Answer(refusal=error.details()) if error.code() in REFUSALS else Answer()
        return Answer(body=MessageToDict(answer, always_print_fields_with_no_presence=True))
