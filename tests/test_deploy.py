"""deploy/: Dockerfile and compose.yaml are what their tools take, and say the same as the code that they run."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from sandbox import envoy
from sandbox.ports import HOST
from sandbox.stack import Stack
from server.settings import PREFIX, Settings
from tests.clients import eventually
from tests.deployed import DEPLOY, DOCKERFILE, DRAINED, an_envoy, example, got, shipped_name, taken
from tests.servers import environment

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
LOCKS = ("requirements.lock", "deploy/requirements.lock")


# All of it


def test_every_setting_that_is_named_exists() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    named = {name for text in texts for name in re.findall(rf"\b{PREFIX}[A-Z_]+", text)}
    not_settings = {f"{PREFIX}ENVOY_"}  # what Kubernetes would set
    assert named - not_settings <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_envoys_file_finds_servers_by_name(stack: Stack, tmp_path: Path) -> None:
    [_, port] = stack.grpc_targets[0].split(":")
    with an_envoy(tmp_path, f"localhost:{port}") as there:
        eventually(lambda: got(f"http://{HOST}:{there.rest}/sessions/nope") == '"Session not found"')


# The images


def test_the_server_runs_on_the_oldest_python_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = set(re.findall(r"^FROM python:([\d.]+)", DOCKERFILE, re.MULTILINE))
    assert {f">={image}" for image in images} == {project["requires-python"]}


def test_the_envoy_that_is_shipped_is_the_one_that_is_tested() -> None:
    told = subprocess.run([envoy.BINARY, "--version"], capture_output=True, text=True, check=True).stdout
    [version] = re.findall(r"^FROM envoyproxy/envoy:v([\d.]+)", DOCKERFILE, re.MULTILINE)
    assert f"/{version}/" in told


def test_envoy_takes_the_images_command() -> None:
    command = json.loads(DOCKERFILE.rpartition("\nCMD ")[2])
    told = subprocess.run([envoy.BINARY, *command, "--mode", "validate"], cwd=ROOT, capture_output=True, check=False)
    assert told.returncode == 0, told.stderr


def test_the_images_lock_is_part_of_the_one_that_is_tested() -> None:
    pins = {path: set(re.findall(r"^(\S+==\S+)", (ROOT / path).read_text(), re.MULTILINE)) for path in LOCKS}
    assert pins["deploy/requirements.lock"] < pins["requirements.lock"]


# compose.yaml


def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", *arguments]
    clean = environment({})
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def docker() -> None:
    if shutil.which("docker") is None or compose("version").returncode:
        pytest.skip("docker compose is not installed: deploy/compose.yaml was only read")


@pytest.mark.usefixtures("docker")
def test_docker_compose_takes_its_file_and_the_example() -> None:
    config = ["--file", "deploy/compose.yaml", "--env-file", "deploy/example.env", "config", "--format", "json"]
    told = compose(*config)
    assert told.returncode == 0, told.stderr
    services = json.loads(told.stdout)["services"]
    assert set(services) == {"postgres", "migrate", "server", "envoy"}
    url = services["server"]["environment"]["LIVE_SESSIONS_DATABASE_URL"]
    assert url == "postgresql://live_sessions:change-me@postgres/live_sessions"


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "LIVE_SESSIONS_JWT_SECRET", "LIVE_SESSIONS_DAILY_API_KEY"])
def test_docker_compose_names_what_is_missing(name: str, tmp_path: Path) -> None:
    given = tmp_path / "given.env"
    given.write_text("".join(f"{each}={value}\n" for each, value in example().items() if each != name))
    told = compose("--file", "deploy/compose.yaml", "--env-file", str(given), "config")
    assert told.returncode != 0
    assert f"required variable {name} is missing a value" in told.stderr


@pytest.mark.parametrize("optional", [False, True])
def test_the_examples_values_are_settings_that_a_server_takes(monkeypatch: pytest.MonkeyPatch, optional: bool) -> None:
    given = COMPOSE["x-settings"]
    values = dict.fromkeys(given, "") | {"LIVE_SESSIONS_METRICS_ADDRESS": given["LIVE_SESSIONS_METRICS_ADDRESS"]}
    values["LIVE_SESSIONS_DATABASE_URL"] = "postgresql://live_sessions:change-me@postgres/live_sessions"
    values |= {name: value for name, value in example(optional=optional).items() if name in given}
    settings = taken(monkeypatch, values)
    assert settings.public_url == ("https://live.example.com" if optional else None)
    assert (settings.events_url is not None) is optional


def test_the_example_has_what_compose_takes_from_outside_and_no_more() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+):", (DEPLOY / "compose.yaml").read_text()))
    assert example(optional=True).keys() == asked


def test_compose_gives_its_servers_the_name_by_which_envoy_finds_them() -> None:
    name, port = shipped_name()
    assert COMPOSE["services"]["server"]["networks"]["default"]["aliases"] == [name]
    assert f"LIVE_SESSIONS_GRPC_ADDRESS=0.0.0.0:{port}\n" in DOCKERFILE


def test_compose_migrates_before_it_serves_and_waits_for_servers_to_drain() -> None:
    server = COMPOSE["services"]["server"]
    assert server["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert int(server["stop_grace_period"].removesuffix("s")) > DRAINED
