"""A client in another language, which makes its stubs from the protos alone: Node.js with @grpc/grpc-js."""

import base64
import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from google.rpc import error_details_pb2, status_pb2

from sandbox.stack import Stack
from tests.clients import Rest

UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")


@pytest.fixture(scope="module")
def client(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, with exactly the packages of its lock file."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(repository / "tests" / "node_client", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if installed.returncode and any(f"code {code}" in installed.stderr for code in UNREACHABLE):
        pytest.skip("the npm registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    return folder / "client.js"


def test_a_node_client_creates_a_session_reads_it_and_understands_an_error(
    client: Path, stack: Stack, rest: Rest, repository: Path
) -> None:
    google_protos = sysconfig.get_path("purelib")
    arguments = [stack.grpc_proxy, repository / "protos", google_protos, rest.token("node-ada")]
    ran = subprocess.run(["node", client, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)

    assert said["got"] == said["created"]
    created = rest.get(said["created"]["roomName"])
    assert (created["createdBy"], created["maxParticipants"]) == ("node-ada", 50)
    assert created["startsAt"] == "2025-12-26T15:00:00.000Z"
    assert said["created"]["status"] == "scheduled"

    assert (said["error"]["code"], said["error"]["message"]) == ("NOT_FOUND", "Session not found")
    status = status_pb2.Status.FromString(base64.b64decode(said["error"]["status"]))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("ERROR_REASON_SESSION_NOT_FOUND", "live-sessions")
