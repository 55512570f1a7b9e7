"""Server processes of a test's own, beside those of the stack and on the same database and Daily stand-in."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sandbox.ports import HOST, free_port
from server.rpc.methods import SERVICE
from tests.clients import eventually

ROOT = Path(__file__).parent.parent
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Server:
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def readiness(self) -> int | None:
        """The health of its service; None when it cannot be asked."""
        return self._health(SERVICE)

    @property
    def liveness(self) -> int | None:
        return self._health("")

    def _health(self, service: str) -> int | None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(self.address, options) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=service)
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
            except grpc.RpcError:
                return None
        return int(answer.status)

    def stop(self) -> int:
        """Its exit code."""
        self.process.terminate()
        return self.process.wait(30)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without the settings of the service, and these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("LIVE_SESSIONS_")}
    return kept | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"} | settings


def run(*arguments: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m server` to its end."""
    command = [sys.executable, "-m", "server", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(settings), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(settings: Mapping[str, str], log: Path, *, ready: bool = True) -> Iterator[Server]:
    """A server on a free port, once it is ready, or, where that is not to be waited for, alive; killed in the end if it
    still runs."""
    with free_port() as port, log.open("wb") as output:
        address = f"{HOST}:{port}"
        process = subprocess.Popen(
            [sys.executable, "-m", "server"],
            cwd=ROOT,
            env=environment({**settings, "LIVE_SESSIONS_GRPC_ADDRESS": address}),
            stdout=output,
            stderr=output,
        )
        try:
            server = Server(address, process, log)

            def is_up() -> bool:
                return (server.readiness if ready else server.liveness) == SERVING

            eventually(lambda: process.poll() is not None or is_up(), seconds=60)
            assert process.poll() is None, log.read_text()
            yield server
        finally:
            process.kill()
            process.wait(10)


def refuses_connections(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
