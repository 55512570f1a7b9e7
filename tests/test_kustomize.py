"""deploy/kustomize: Kubernetes takes it, and it says the same as the code and the files that it runs."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from sandbox import envoy
from sandbox.ports import HOST
from server.app import VERSION
from server.rpc.methods import SERVICE
from server.settings import PREFIX
from tests.clients import eventually
from tests.deployed import DEPLOY, DOCKERFILE, DRAINED, an_envoy, example, got, shipped_name, shipped_ports, taken

BASE = DEPLOY / "kustomize" / "base"
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())
RESOURCES = [each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((BASE / name).read_text())]
PODS = {each["metadata"]["name"]: each["spec"]["template"] for each in RESOURCES if "template" in each["spec"]}
NAME = "live-sessions"
DNS_AGE, ENVOY_ASKS = 30, 5
"""Seconds: how old an answer of Kubernetes' DNS may be as it is usually set up; how often Envoy asks."""
KUBERNETES = ["1.29", kubernetes_validate.latest_version()]


def resource(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in RESOURCES if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return dict(found)


def container(name: str) -> dict[str, Any]:
    [found] = PODS[name]["spec"]["containers"]
    return dict(found)


def named(each: dict[str, Any]) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("manifest", RESOURCES, ids=named)
def test_kubernetes_takes_every_manifest(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def rendered(directory: Path) -> list[dict[str, Any]]:
    """What kustomize makes of it, all of it valid."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: deploy/kustomize was not rendered")
    told = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    resources = list(yaml.safe_load_all(told.stdout))
    for each in resources:
        kubernetes_validate.validate(each, KUBERNETES[-1], strict=True)
    return resources


def test_kustomize_renders_the_base() -> None:
    kinds = sorted(each["kind"] for each in rendered(BASE))
    assert kinds == sorted(["ConfigMap", *(each["kind"] for each in RESOURCES)])


def test_kustomize_renders_the_overlay_of_the_docs(repository: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (repository / "docs" / "operations.md").read_text(), re.DOTALL)
    [overlay] = [each for each in blocks if "kind: Kustomization" in each]
    here = os.path.relpath(BASE, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("path/to/deploy/kustomize/base", here))
    resources = rendered(tmp_path)
    [config] = [each for each in resources if each["kind"] == "ConfigMap"]
    assert set(config["data"]) == {
        f"{PREFIX}{name}" for name in ("GRPC_ADDRESS", "METRICS_ADDRESS", "PUBLIC_URL", "JWT_JWKS_URL")
    }
    [server] = [each for each in resources if each["kind"] == "Deployment" and each["metadata"]["name"] == NAME]
    [container] = server["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/live-sessions:{VERSION}"
    assert container["envFrom"][0] == {"configMapRef": {"name": config["metadata"]["name"]}}


def test_the_base_names_all_its_files() -> None:
    assert {path.name for path in BASE.iterdir()} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


def test_the_bases_settings_and_a_secret_are_all_that_a_server_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    [config] = KUSTOMIZATION["configMapGenerator"]
    secret = {name: value for name, value in example().items() if name.startswith(PREFIX)}
    url = {"LIVE_SESSIONS_DATABASE_URL": "postgresql://host/database"}
    settings = taken(monkeypatch, dict(each.split("=", 1) for each in config["literals"]) | secret | url)
    assert settings.grpc_address == f"0.0.0.0:{shipped_name()[1]}"


def test_envoys_file_finds_the_servers_of_the_base_each_by_its_own_address() -> None:
    name, port = shipped_name()
    service = resource("Service", name)["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert service["selector"].items() <= PODS[name]["metadata"]["labels"].items()
    assert [each["port"] for each in service["ports"]] == [port]
    ports = {each["name"]: each["containerPort"] for each in container(name)["ports"]}
    assert ports == {"grpc": port, "metrics": 9464}


def test_the_edges_service_has_the_ports_of_envoys_listeners() -> None:
    service = resource("Service", "live-sessions-envoy")["spec"]
    assert {each["name"]: each["port"] for each in service["ports"]} == shipped_ports()
    ports = container("live-sessions-envoy")["ports"]
    assert {each["name"]: each["containerPort"] for each in ports} == shipped_ports() | {"metrics": 9902}


def test_a_server_is_ready_when_the_service_is_and_alive_when_it_answers() -> None:
    server = container("live-sessions")
    assert server["readinessProbe"]["grpc"] == {"port": shipped_name()[1], "service": SERVICE}
    assert server["livenessProbe"]["grpc"] == server["startupProbe"]["grpc"] == {"port": shipped_name()[1]}


@pytest.mark.parametrize("pod", PODS)
def test_kubernetes_adds_no_variable_of_ours_that_a_server_would_refuse(pod: str) -> None:
    assert PODS[pod]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_may_do_nothing_that_it_need_not(pod: str) -> None:
    spec, inner = PODS[pod]["spec"], container(pod)["securityContext"]
    assert (spec["automountServiceAccountToken"], spec["securityContext"]["runAsNonRoot"]) == (False, True)
    assert f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}\n" in DOCKERFILE
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", ["live-sessions", "live-sessions-envoy"])
def test_pods_are_replaced_and_moved_one_by_one(name: str) -> None:
    assert resource("Deployment", name)["spec"]["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    budget = resource("PodDisruptionBudget", name)["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, PODS[name]["metadata"]["labels"])


def test_the_next_server_is_not_replaced_before_envoy_knows_the_new_one() -> None:
    assert resource("Deployment", NAME)["spec"]["minReadySeconds"] > DNS_AGE + ENVOY_ASKS


def test_a_server_has_the_time_to_drain() -> None:
    assert PODS["live-sessions"]["spec"]["terminationGracePeriodSeconds"] > DRAINED


def test_an_envoy_has_the_time_to_drain() -> None:
    _, before, after = re.split(r"sleep (?=\d)", pre_stop())
    listening = int(re.findall(r'"--drain-time-s", "(\d+)"', DOCKERFILE)[0])
    waits = int(before.split()[0]) + int(after)
    assert int(after) > listening
    assert PODS["live-sessions-envoy"]["spec"]["terminationGracePeriodSeconds"] > waits


def probed(there: envoy.Addresses) -> dict[str, int]:
    """The status that each of an Envoy's probes gets, and Prometheus."""
    edge = container("live-sessions-envoy")
    probes = {kind: edge[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    paths = {kind: probe["path"] for kind, probe in probes.items()} | {"Prometheus": "/metrics"}
    url = f"http://{HOST}:{there.metrics}"
    return {kind: httpx.get(url + path, trust_env=False).status_code for kind, path in paths.items()}


@pytest.mark.parametrize("limit", ["max_active_downstream_connections", "max_heap_size_bytes"])
def test_an_envoy_that_takes_no_more_callers_is_alive_and_ready(limit: str, tmp_path: Path) -> None:
    with an_envoy(tmp_path, f"{HOST}:1", **{limit: 1}) as there, socket.create_connection((HOST, there.rest)):
        eventually(lambda: '"service"' not in got(f"http://{HOST}:{there.rest}/"))
        assert probed(there) == {"startup": 200, "liveness": 200, "readiness": 200, "Prometheus": 200}


def test_an_envoy_that_is_taken_out_by_hand_is_alive_and_not_ready(tmp_path: Path) -> None:
    with an_envoy(tmp_path, f"{HOST}:1") as there:
        httpx.post(f"http://{HOST}:{there.admin}/healthcheck/fail", trust_env=False).raise_for_status()
        assert probed(there) == {"startup": 200, "liveness": 200, "readiness": 503, "Prometheus": 200}


def pre_stop() -> str:
    command = container("live-sessions-envoy")["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["bash", "-c"]
    return str(command[2])


def test_what_kubernetes_runs_before_it_ends_an_envoy_makes_it_take_no_more_connections(tmp_path: Path) -> None:
    assert "/127.0.0.1/9901\n" in pre_stop()
    with an_envoy(tmp_path, f"{HOST}:1") as there:
        at_once = "sleep() { :; }\n" + pre_stop().replace("/9901", f"/{there.admin}")
        told = subprocess.run(["bash", "-c", at_once], capture_output=True, text=True, timeout=30, check=False)
        assert (told.returncode, told.stdout.splitlines()[0]) == (0, "HTTP/1.1 200 OK")
        stat = "listener_manager.listener_stopped"
        eventually(lambda: got(f"http://{HOST}:{there.admin}/stats?filter={stat}").strip() == f"{stat}: 3", 30)
