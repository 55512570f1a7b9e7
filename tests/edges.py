"""A second Envoy beside the stack's, and the end of one that it has taken over from, as docs/operations.md says."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandbox import envoy
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace, stop_together
from sandbox.stack import Stack
from tests.clients import eventually


@contextmanager
def envoy_beside(stack: Stack, directory: Path) -> Iterator[tuple[Process, str]]:
    """On the stack's ports, not yet started, and the URL of its admin interface; it is stopped in the end."""
    workspace = Workspace(directory)
    workspace.claim()
    with free_port() as admin:
        file, url = directory / "envoy.yaml", f"http://{HOST}:{admin}"
        file.write_text(envoy.configuration(stack.envoy_addresses(admin)))
        command = [envoy.BINARY, "-c", file, *envoy.OPTIONS]
        process = Process("envoy", command, workspace, ready=lambda: _reaches_a_server(url))
        try:
            yield process, url
        finally:
            stop_together(process)
            workspace.release()


def drain(admin_url: str) -> None:
    """Return when no call is in flight at the Envoy, and no listener takes another."""
    httpx.post(f"{admin_url}/drain_listeners?graceful", trust_env=False).raise_for_status()
    eventually(lambda: _stat(admin_url, "listener_manager.listener_stopped") == 3, 30)
    eventually(lambda: _is_quiet(admin_url), 30)  # Daily's connections are idle, and stay until they are used
    eventually(lambda: _stat(admin_url, "http.grpc.downstream_cx_active") == 0, 30)


def _is_quiet(admin_url: str) -> bool:
    """Whether no call of REST comes for a second, nor is in flight."""
    calls = _stat(admin_url, "http.rest.downstream_rq_total")
    time.sleep(1)
    return calls == _stat(admin_url, "http.rest.downstream_rq_total") and not _stat(
        admin_url, "http.rest.downstream_rq_active"
    )


def _stat(admin_url: str, name: str) -> int:
    text = httpx.get(f"{admin_url}/stats?filter=^{name}$", trust_env=False).text
    return int(text.rpartition(" ")[2])


def _reaches_a_server(admin_url: str) -> bool:
    try:
        return "health_flags::healthy" in httpx.get(f"{admin_url}/clusters", trust_env=False).text
    except httpx.HTTPError:
        return False
