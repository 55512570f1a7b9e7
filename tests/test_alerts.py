"""Alert rules, dashboard and the operator's ten questions: each query is valid, and asks for what there is."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace
from sandbox.stack import Stack
from storage.store import POOL_SIZE
from tests.clients import DailyControl, Rest, eventually
from tests.scraping import raw_names

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
LABELS = {"envoy_cluster_name", "envoy_http_conn_manager_prefix", "envoy_response_code", "envoy_response_code_class"}
METRIC = re.compile(r"\b(?:live_sessions|grpc_server|envoy|process)_\w+")


def in_rules() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"].strip() for group in groups for rule in group["rules"]]


def in_dashboard() -> list[str]:
    panels = json.loads((ROOT / "deploy" / "grafana" / "live-sessions.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [expression.replace("$__rate_interval", "5m") for expression in found]


def in_operations() -> list[str]:
    blocks = re.findall(r"```promql\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


QUERIES = [*in_rules(), *in_dashboard(), *in_operations()]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def test_every_question_of_operators_has_its_queries() -> None:
    questions = re.findall(r"^\*\*\d+\. ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert questions == [f"**{number}. " for number in range(1, 11)]
    assert len(in_operations()) >= 20


def test_every_alert_has_its_question_and_its_first_step() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule["alert"].removeprefix("LiveSessions") for group in groups for rule in group["rules"]]
    table = (ROOT / "docs" / "operations.md").read_text().partition("### Alerts")[2].partition("###")[0]
    assert re.findall(r"^\| `(\w+)` \| \d", table, re.MULTILINE) == rules


def test_what_each_process_tells_of_the_whole_deployment_is_never_added_up() -> None:
    shared = "live_sessions_(?:upkeep_due|upkeep_oldest_due_seconds|inbox_unapplied|deliveries_pending)"
    assert [query for query in QUERIES if re.search(rf"sum\b[^{{]*\({shared}", query)] == []


def test_whatever_is_asked_for_is_told(stack: Stack, rest: Rest, daily: DailyControl) -> None:
    room = rest.recording("alerts-ada")["roomName"]
    daily.join(room, rest.call("POST", f"/sessions/{room}/token", "alerts-sam", "student").json()["token"])

    def missing() -> set[str]:
        told = set[str]().union(*(raw_names(url) for url in stack.metrics_urls))
        return {name for query in QUERIES for name in METRIC.findall(query)} - LABELS - told

    eventually(lambda: missing() == set())


def test_rules_go_by_grpc_code() -> None:
    assert [rule for rule in in_rules() if "downstream_rq_xx" in rule or "response_code_class" in rule] == []


def test_the_pool_that_is_used_up_is_as_large_as_ours() -> None:
    assert f'{{pool="transactions",state="in_use"}} >= {POOL_SIZE}' in in_rules()[-2]


def test_promtool_takes_the_configuration_and_the_rules(promtool: str) -> None:
    config = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
    subprocess.run([promtool, "check", "config", config], check=True)


def test_promtool_takes_every_query(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(QUERIES)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", file], check=True)


def test_alerts_ring_when_they_should_and_only_then(promtool: str) -> None:
    tested = subprocess.run(
        [promtool, "test", "rules", ROOT / "tests" / "alerts.yaml"], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_prometheus_scrapes_all_and_nothing_rings(stack: Stack, rest: Rest, tmp_path: Path) -> None:
    """By the shipped files, with the stack's addresses and an interval of a second."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    assert rest.call("GET", "/sessions/nope").status_code == 500
    with prometheus(stack, tmp_path) as api:
        targets = eventually(lambda: all_scraped(api), 30)
        assert {target["labels"]["job"]: target["health"] for target in targets} == {
            "live-sessions": "up",
            "live-sessions-edge": "up",
        }
        for query in QUERIES:
            assert api.get("/query", params={"query": query}).json()["status"] == "success", query
        rules = [rule for group in api.get("/rules").json()["data"]["groups"] for rule in group["rules"]]
        assert [(rule["name"], rule["state"]) for rule in rules if rule["state"] == "firing"] == []


def all_scraped(api: httpx.Client) -> list[dict[str, Any]]:
    try:
        answer = api.get("/targets")
    except httpx.HTTPError:
        return []
    targets = answer.json()["data"]["activeTargets"] if answer.is_success else []
    return [] if any(target["health"] == "unknown" for target in targets) else list(targets)


@contextmanager
def prometheus(stack: Stack, directory: Path) -> Iterator[httpx.Client]:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    edge, *servers = [url.removeprefix("http://").removesuffix("/metrics") for url in stack.metrics_urls]
    for job, targets in zip(config["scrape_configs"], (servers, [edge]), strict=True):
        job["static_configs"] = [{"targets": targets}]
    shutil.copy(RULES, directory)
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    workspace = Workspace(directory)
    workspace.claim()
    with free_port() as port, httpx.Client(base_url=f"http://{HOST}:{port}/api/v1", trust_env=False) as api:
        options = [f"--web.listen-address={HOST}:{port}", f"--storage.tsdb.path={directory / 'data'}"]
        command = ["prometheus", f"--config.file={directory / 'prometheus.yaml'}", *options]
        process = Process("prometheus", command, workspace)
        process.start()
        try:
            yield api
        finally:
            process.stop()
            workspace.release()
