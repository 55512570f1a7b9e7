"""The commands of the README: `buf curl` against the gRPC listener, with nothing but reflection to know the service."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox.stack import Stack
from tests.clients import Rest

BUF = Path(sys.executable).with_name("buf")
SERVICE = "live_sessions.v1.LiveSessions"


def buf_curl(stack: Stack, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments]
    return subprocess.run([*command, f"http://{stack.grpc_proxy}{path}"], capture_output=True, text=True, check=False)


def call(stack: Stack, method: str, request: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    return buf_curl(stack, "--data", json.dumps(request), *arguments, path=f"/{SERVICE}/{method}")


def test_buf_curl_lists_the_services(stack: Stack) -> None:
    listed = buf_curl(stack, "--list-services")
    assert listed.stdout.split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]


def test_buf_curl_creates_a_session_and_gets_it(stack: Stack, rest: Rest) -> None:
    request = {"courseId": "course-uuid-123", "startsAt": "2025-12-26T15:00:00Z", "recordingEnabled": True}
    created = call(stack, "CreateLiveSession", request, "--header", f"Authorization: Bearer {rest.token('tools-ada')}")
    session = json.loads(created.stdout)
    assert session == request | {name: session[name] for name in ("_id", "roomName", "createdAt", "updatedAt")} | {
        "status": "scheduled",
        "createdBy": "tools-ada",
    }

    got = call(stack, "GetLiveSession", {"sessionName": session["roomName"]})
    assert json.loads(got.stdout) == session


def test_buf_curl_shows_the_code_and_the_text_of_an_error(stack: Stack) -> None:
    failed = call(stack, "GetLiveSession", {"sessionName": "nope"})
    error = json.loads(failed.stderr)
    assert (error["code"], error["message"]) == ("not_found", "Session not found")
    assert [detail["type"] for detail in error["details"]] == ["google.rpc.ErrorInfo"]
    assert failed.returncode != 0
