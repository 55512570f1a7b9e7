"""What the tests of deploy/ read: its files, the shipped Envoy file, and what a server waits for before it ends."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sandbox import envoy
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace, stop_together
from server import deadline
from server.rpc import serving
from server.settings import PREFIX, Settings, load

DEPLOY = Path(__file__).parent.parent / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
DRAINED = serving.HEALTH_INTERVAL + serving.GRACE + deadline.WORK
"""Seconds in which a server has drained."""


def shipped_cluster() -> dict[str, Any]:
    clusters = yaml.safe_load(envoy.SHIPPED.read_text())["static_resources"]["clusters"]
    [found] = [each for each in clusters if each["name"] == "live_sessions"]
    return dict(found)


def shipped_name() -> tuple[str, int]:
    """The name and the port by which the shipped file finds the servers."""
    [locality] = shipped_cluster()["load_assignment"]["endpoints"]
    [endpoint] = locality["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    return address["address"], address["port_value"]


def shipped_ports() -> dict[str, int]:
    listeners = yaml.safe_load(envoy.SHIPPED.read_text())["static_resources"]["listeners"]
    ports = {each["name"]: each["address"]["socket_address"]["port_value"] for each in listeners}
    return {name: ports[name] for name in ("rest", "grpc")}


def taken(environment: pytest.MonkeyPatch, given: dict[str, str]) -> Settings:
    """What a server makes of these settings."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        environment.delenv(name)
    for name, value in given.items():
        environment.setenv(name, value)
    return load()


def example(*, optional: bool = False) -> dict[str, str]:
    """As it is copied, or with what stands there behind a `#`."""
    lines = [line.removeprefix("#" if optional else "") for line in (DEPLOY / "example.env").read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))


@contextmanager
def an_envoy(directory: Path, server: str, **limits: int) -> Iterator[envoy.Addresses]:
    """One of its own with the shipped file and these limits, before this server, which need not be there."""
    workspace = Workspace(directory)
    workspace.claim()
    with free_port() as rest, free_port() as grpc, free_port() as metrics, free_port() as admin:
        addresses = envoy.Addresses(rest=rest, grpc=grpc, metrics=metrics, admin=admin, servers=[server])
        file = directory / "envoy.yaml"
        text = envoy.configuration(addresses)
        for name, value in limits.items():
            text = re.sub(rf"(?<={name}: )\d+", str(value), text)
        file.write_text(text)
        ready = f"http://{HOST}:{admin}/ready"
        process = Process(
            "envoy", [envoy.BINARY, "-c", file, *envoy.OPTIONS], workspace, ready=lambda: "LIVE" in got(ready)
        )
        try:
            process.start()
            yield addresses
        finally:
            stop_together(process)
            workspace.release()


def got(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.HTTPError:
        return ""
