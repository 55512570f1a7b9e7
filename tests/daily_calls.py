"""The calls that need Daily, each on a session of its own, so that Daily can be broken for it alone."""

from typing import Any
from uuid import uuid4

import httpx

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from tests.clients import EXAMPLE, DailyControl, Rest, bearer

FAILURES = {
    "create": "Failed to create session room",
    "delete": "Failed to delete session",
    "start": "Failed to start session recording",
    "stop": "Failed to stop session recording",
    "get": "Failed to get session recording",
}


class Call:
    """One call that needs Daily, by an instructor of its own, on a session of its own."""

    def __init__(self, kind: str, rest: Rest, daily: DailyControl) -> None:
        self.kind, self.failure, self.by = kind, FAILURES[kind], f"{kind}-{uuid4()}"
        self._rest, self._daily = rest, daily
        session: dict[str, Any] = {}
        if kind != "create":
            session = rest.recording(self.by) if kind in ("stop", "get") else rest.create(self.by)
        self.room, self.recording = session.get("roomName", ""), session.get("recordingId", "")

    def at_daily(self) -> tuple[str, str]:
        """The request that it makes there, method and path."""
        return {
            "create": ("POST", "/rooms"),
            "delete": ("DELETE", f"/rooms/{self.room}"),
            "start": ("POST", f"/rooms/{self.room}/recordings/start"),
            "stop": ("POST", f"/rooms/{self.room}/recordings/stop"),
            "get": ("GET", f"/recordings/{self.recording}"),
        }[self.kind]

    def by_rest(self) -> httpx.Response:
        method, path = {
            "create": ("POST", "/sessions"),
            "delete": ("DELETE", f"/sessions/{self.room}"),
            "start": ("POST", f"/sessions/{self.room}/start-recording"),
            "stop": ("POST", f"/sessions/{self.room}/stop-recording"),
            "get": ("GET", f"/sessions/{self.room}/recording"),
        }[self.kind]
        body = {"json": EXAMPLE, "headers": {"Idempotency-Key": self.by}} if self.kind == "create" else {}
        return self._rest.call(method, path, self.by, **body)

    def by_grpc(self, stub: LiveSessionsStub, timeout: float = 20) -> Any:
        request: Any
        method, request = {
            "create": (stub.CreateLiveSession, rpc.CreateLiveSessionRequest(course_id=EXAMPLE["courseId"])),
            "delete": (stub.DeleteLiveSession, rpc.DeleteLiveSessionRequest()),
            "start": (stub.StartSessionRecording, rpc.StartSessionRecordingRequest()),
            "stop": (stub.StopSessionRecording, rpc.StopSessionRecordingRequest()),
            "get": (stub.GetSessionRecording, rpc.GetSessionRecordingRequest()),
        }[self.kind]
        if self.kind == "create":
            request.starts_at.FromJsonString(EXAMPLE["startsAt"])
        else:
            request.session_name = self.room
        return method(request, metadata=bearer(self._rest.token(self.by)), timeout=timeout)

    def is_done(self) -> bool:
        """What it asked for is so, once, here and at Daily."""
        sessions = self._rest.call("GET", f"/sessions/instructor/{self.by}").json()
        recordings = [each["status"] for each in self._daily.recordings(sessions[0]["roomName"])]
        here = ([session["status"] for session in sessions], sessions[0]["roomName"] in self._daily.rooms(), recordings)
        return (
            here
            == {
                "create": (["scheduled"], True, []),
                "delete": (["ended"], False, []),
                "start": (["live"], True, ["in-progress"]),
                "stop": (["ended"], True, ["finished"]),
                "get": (["live"], True, ["in-progress"]),
            }[self.kind]
        )


def break_daily(daily: DailyControl, calls: list[Call], fault: str, **options: Any) -> None:
    for call in calls:
        daily.fault(fault, *call.at_daily(), **options)
