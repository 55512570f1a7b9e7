"""The service config that the client package brings, at work against a server that answers UNAVAILABLE first."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.ports import HOST
from sandbox.stack import Stack
from server import deadline
from tests.clients import Rest

CONFIG = files("live_sessions.v1").joinpath("service_config.json").read_text()
SERVICE = rpc.DESCRIPTOR.services_by_name["LiveSessions"]
UNARY = [method for method in SERVICE.methods if not method.server_streaming]
STREAMS = [method for method in SERVICE.methods if method.server_streaming]


class Refusing(grpc.GenericRpcHandler):
    """A server's every RPC: UNAVAILABLE for so many times, then an empty answer, once it may answer."""

    def __init__(self) -> None:
        self.refusals = 0
        self.calls: Counter[str] = Counter()
        self.may_answer = Event()
        self.may_answer.set()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(details.method, context))

    def _answer(self, method: str, context: grpc.ServicerContext) -> bytes:
        self.calls[method.rpartition("/")[2]] += 1
        if self.calls.total() <= self.refusals:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        self.may_answer.wait(30)
        return b""


@pytest.fixture
def server() -> Refusing:
    return Refusing()


@pytest.fixture
def stub(server: Refusing) -> Iterator[LiveSessionsStub]:
    serving = grpc.server(ThreadPoolExecutor(1), handlers=[server])
    port = serving.add_insecure_port(f"{HOST}:0")
    serving.start()
    options = [("grpc.service_config", CONFIG), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{HOST}:{port}", options) as channel:
        yield LiveSessionsStub(channel)
    server.may_answer.set()
    serving.stop(None)


def begin(stub: LiveSessionsStub, method: MethodDescriptor) -> Any:
    return getattr(stub, method.name).future(GetMessageClass(method.input_type)())


def call(stub: LiveSessionsStub, method: MethodDescriptor) -> grpc.StatusCode:
    return begin(stub, method).code()


def retried() -> set[str]:
    """The unary RPCs that a client calls again."""
    entries = [entry for entry in json.loads(CONFIG)["methodConfig"] if "retryPolicy" in entry]
    return {name["method"] for entry in entries for name in entry["name"]} & {method.name for method in UNARY}


def repeated_by_envoy(repository: Path, listener: str) -> set[str]:
    """The unary RPCs that Envoy sends once more when a server goes away in the middle."""
    config = yaml.safe_load((repository / "envoy" / "envoy.yaml").read_text())
    [found] = [each for each in config["static_resources"]["listeners"] if each["name"] == listener]
    manager: dict[str, Any] = found["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    safe = [each for each in routes if "reset" in each.get("route", {}).get("retry_policy", {}).get("retry_on", "")]
    return {route["match"].get("path", "").rpartition("/")[2] for route in safe} & {method.name for method in UNARY}


@pytest.mark.parametrize("method", UNARY, ids=lambda method: method.name)
def test_what_is_safe_is_called_again_and_nothing_else(
    server: Refusing, stub: LiveSessionsStub, method: MethodDescriptor
) -> None:
    server.refusals = 2
    outcome = call(stub, method)
    again = (grpc.StatusCode.OK, {method.name: 3})
    once = (grpc.StatusCode.UNAVAILABLE, {method.name: 1})
    assert (outcome, server.calls) == (again if method.name in retried() else once)


def test_a_read_is_called_four_times_at_most(server: Refusing, stub: LiveSessionsStub) -> None:
    server.refusals = 10
    assert call(stub, SERVICE.methods_by_name["GetLiveSession"]) == grpc.StatusCode.UNAVAILABLE
    assert server.calls == {"GetLiveSession": 4}


@pytest.mark.parametrize("listener", ["rest", "grpc"])
def test_clients_call_again_what_envoy_sends_again(repository: Path, listener: str) -> None:
    assert retried() == repeated_by_envoy(repository, listener)


def test_a_call_without_an_answer_ends_after_the_servers_own_deadline(server: Refusing, stub: LiveSessionsStub) -> None:
    """By the 13 s of the config, of which Python's gRPC waits 12 (github.com/grpc/grpc/issues/34547)."""
    server.may_answer.clear()
    start = time.monotonic()
    calls = [begin(stub, method) for method in UNARY]
    assert {each.code() for each in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert time.monotonic() - start > deadline.CALL


def test_the_clients_readme_shows_how_to_use_it(stack: Stack, rest: Rest, repository: Path) -> None:
    name = rest.create()["roomName"]
    [code] = re.findall(r"```python\n(.*?)```", (repository / "generated" / "README.md").read_text(), re.DOTALL)
    shown: dict[str, Any] = {}
    exec(code.replace("live-sessions-envoy:8081", stack.grpc_proxy).replace("unique-room-name", name), shown)
    assert shown["session"].room_name == name


def test_a_stream_has_no_deadline() -> None:
    """An entry of its own: that of the whole service has one."""
    config = json.loads(CONFIG)["methodConfig"]
    without = {name.get("method") for entry in config if "timeout" not in entry for name in entry["name"]}
    assert without == {method.name for method in STREAMS}


def test_every_method_that_is_named_is_of_the_contract() -> None:
    named = [name for entry in json.loads(CONFIG)["methodConfig"] for name in entry["name"]]
    assert {name["service"] for name in named} == {SERVICE.full_name}
    assert {name["method"] for name in named if "method" in name} <= set(SERVICE.methods_by_name)
