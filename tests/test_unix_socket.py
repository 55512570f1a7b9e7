"""A server on a Unix socket, which nothing on the network reaches, behind the shipped Envoy file."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml

from sandbox import envoy
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace, stop_together
from sandbox.stack import Stack
from tests.clients import Rest, eventually, said


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """With a short name: the path of a socket ends at 107 characters."""
    with TemporaryDirectory() as directory:
        workspace = Workspace(Path(directory))
        workspace.claim()
        yield workspace
        workspace.release()


def test_envoy_reaches_a_server_on_a_unix_socket(stack: Stack, rest: Rest, workspace: Workspace) -> None:
    room, socket = rest.create("socket-ada")["roomName"], workspace.path / "1.sock"
    settings = stack.environment | {"LIVE_SESSIONS_GRPC_ADDRESS": f"unix:{socket}"}
    server = Process("server", [sys.executable, "-m", "server"], workspace, settings, ready=socket.is_socket)
    with ExitStack() as ports:
        rest_port, grpc_port, metrics, admin = (ports.enter_context(free_port()) for _ in range(4))
        addresses = envoy.Addresses(rest_port, grpc_port, metrics, admin, stack.grpc_targets)
        config = yaml.safe_load(envoy.configuration(addresses))
        [cluster] = [each for each in config["static_resources"]["clusters"] if each["name"] == "live_sessions"]
        cluster["type"] = "STATIC"
        [endpoint] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoint["endpoint"]["address"] = {"pipe": {"path": str(socket)}}
        file = workspace.path / "envoy.yaml"
        file.write_text(yaml.safe_dump(config))
        edge = Process("envoy", [envoy.BINARY, "-c", file, *envoy.OPTIONS], workspace)
        try:
            server.start()
            edge.start()
            assert said(eventually(lambda: read(rest_port, room), 30)) == (200, rest.get(room))
        finally:
            stop_together(edge, server)


def read(port: int, room: str) -> httpx.Response | None:
    """None while there is no answer, or only Envoy's."""
    try:
        answer = httpx.get(f"http://{HOST}:{port}/sessions/{room}", trust_env=False)
    except httpx.HTTPError:
        return None
    return None if answer.status_code == 503 else answer
