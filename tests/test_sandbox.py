"""The sandbox as its user meets it: started as a program, or by `Stack`, on real processes."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import psycopg
import pytest

from sandbox import ports
from sandbox.ports import free_port
from sandbox.process import SandboxError
from sandbox.stack import Stack

FREE_PORTS = ("--rest-port=0", "--grpc-port=0", "--daily-port=0", "--proxy-port=0", "--pages-port=0")
ROOT = Path(__file__).parents[1]


class Sandbox:
    """`python -m sandbox` on a data directory, and whatever came of it."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        self._mark = uuid.uuid4().hex  # inherited by everything the sandbox starts
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", f"--data-dir={data_dir}", *FREE_PORTS, *arguments],
            cwd=ROOT,
            env=os.environ | environment | {"SANDBOX_TEST": self._mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"ready": true'):
                return json.loads(line)
        raise AssertionError(self.ended())

    def ended(self) -> tuple[int, str]:
        """Its exit status and what it wrote on stderr."""
        stderr = self.process.communicate(timeout=30)[1]
        return self.process.returncode, stderr

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()[0]

    def recorded(self) -> dict[str, int]:
        """The parts that run, each with its pid."""
        with suppress(FileNotFoundError):
            record = json.loads((self.data_dir / "processes.json").read_text())
            return {each["name"]: each["pid"] for each in record}
        return {}

    def alive(self) -> list[psutil.Process]:
        return [each for each in psutil.process_iter() if self._owns(each)]

    def _owns(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return process.status() != psutil.STATUS_ZOMBIE and (
                process.environ().get("SANDBOX_TEST") == self._mark  # which PostgreSQL's titles overwrite
                or Path(process.cwd()).is_relative_to(self.data_dir)
            )
        return False


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below `tmp_path`, which another test run of root's closes to PostgreSQL's own account."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "data"


@pytest.fixture
def launch(data_dir: Path) -> Iterator[Callable[..., Sandbox]]:
    launched = []

    def start(*arguments: str, **environment: str) -> Sandbox:
        launched.append(Sandbox(data_dir, *arguments, **environment))
        return launched[-1]

    yield start
    for sandbox in launched:
        for process in [sandbox.process, *sandbox.alive()]:
            with suppress(psutil.Error):
                process.kill()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def caller(data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", "token", "--id=ins-1", "--name=Ada", "--role=instructor"]
    return subprocess.run(
        [*command, f"--data-dir={data_dir}"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def create_session(rest_url: str, token: str) -> httpx.Response:
    body = {"courseId": "course-1", "startsAt": "2030-01-01T10:00:00Z"}
    return httpx.post(f"{rest_url}/sessions", json=body, headers={"authorization": f"Bearer {token}"})


def test_it_says_when_it_is_ready_takes_the_printed_tokens_refuses_a_second_start_and_leaves_no_process(
    launch: Callable[..., Sandbox],
) -> None:
    sandbox = launch("--workers=2", "--limits")
    ready = sandbox.ready()
    names = ["rest_url", "pages_url", "grpc_targets", "grpc_proxy", "daily_url", "database_url", "metrics_urls"]
    assert list(ready) == ["ready", *names]
    assert len(ready["grpc_targets"]) == 2
    assert httpx.get(f"{ready['daily_url']}/sandbox/settings").json()["limits"] is True
    psycopg.connect(ready["database_url"]).close()

    token = caller(sandbox.data_dir).stdout.strip()
    assert create_session(ready["rest_url"], token).status_code == 201

    second = launch()
    assert second.ended() == (1, f"a stack is already running on {sandbox.data_dir}\n")
    assert httpx.get(f"{ready['rest_url']}/sessions/instructor/ins-1").status_code == 200

    assert sandbox.stop(signal.SIGTERM) == 0
    assert sandbox.alive() == []


def test_ctrl_c_while_it_starts_stops_it_and_leaves_no_process(launch: Callable[..., Sandbox]) -> None:
    sandbox = launch()
    until(lambda: "server-0" in sandbox.recorded())
    assert sandbox.stop(signal.SIGINT) == 0
    assert sandbox.alive() == []


def test_after_it_was_killed_the_next_start_works_with_the_same_data_until_a_part_dies_and_is_named(
    launch: Callable[..., Sandbox],
) -> None:
    killed = launch()
    ready = killed.ready()
    created = create_session(ready["rest_url"], caller(killed.data_dir).stdout.strip()).json()
    killed.process.kill()
    killed.process.wait()
    left = killed.alive()
    assert len(left) > 4

    sandbox = launch(f"--rest-port={httpx.URL(ready['rest_url']).port}")
    assert sandbox.ready()["rest_url"] == ready["rest_url"]
    assert httpx.get(f"{ready['rest_url']}/sessions/instructor/ins-1").json() == [created]
    assert set(left) & set(killed.alive()) == set()

    os.kill(sandbox.recorded()["postgres"], signal.SIGKILL)
    status, stderr = sandbox.ended()
    log = sandbox.data_dir / "logs" / "postgres.log"
    assert status == 1
    assert stderr.startswith(f"postgres was ended by SIGKILL; its log is {log}\n")
    assert sandbox.alive() == []


def test_the_same_data_serve_at_another_port_and_with_tls_whose_certificates_are_named(
    launch: Callable[..., Sandbox],
) -> None:
    plain = launch()
    created = create_session(plain.ready()["rest_url"], caller(plain.data_dir).stdout.strip()).json()
    assert plain.stop() == 0

    ready = launch("--tls").ready()
    assert ready["rest_url"].startswith("https://")
    trusted = ssl.create_default_context(cafile=Path(ready["certificates"]) / "clients" / "ca.crt")
    assert httpx.get(f"{ready['rest_url']}/sessions/instructor/ins-1", verify=trusted).json() == [created]
    webhook = httpx.get(f"{ready['daily_url']}/sandbox/state").json()["webhook"]
    assert webhook["url"] == f"{ready['rest_url']}/webhooks/daily"


def test_daily_co_itself_is_told_of_no_address_that_it_cannot_reach(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with free_port() as nobody:
        monkeypatch.setenv("LIVE_SESSIONS_DAILY_API_URL", f"http://127.0.0.1:{nobody}/v1")
        monkeypatch.setenv("LIVE_SESSIONS_DAILY_API_KEY", "of a real domain")
        with Stack(data_dir) as stack:
            missing = {"LIVE_SESSIONS_PUBLIC_URL", "LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"}
            assert stack.environment.keys() & missing == set()
            assert "public_url" not in (stack.logs / "server-0.log").read_text()


def test_a_start_that_fails_says_why_and_leaves_nothing(launch: Callable[..., Sandbox]) -> None:
    sandbox = launch(LIVE_SESSIONS_JWT_SECRET="short")
    status, stderr = sandbox.ended()
    assert status == 1
    assert "LIVE_SESSIONS_JWT_SECRET must have at least 32 bytes" in stderr
    assert sandbox.alive() == []


@pytest.mark.parametrize("flag", ["--rest-port", "--grpc-port", "--daily-port", "--proxy-port", "--pages-port"])
def test_a_port_in_use_is_named_with_its_flag_before_anything_starts(launch: Callable[..., Sandbox], flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sandbox = launch(f"{flag}={port}")
        assert sandbox.ended() == (1, f"port {port} ({flag}) is in use\n")
    assert sandbox.recorded() == {}


def test_a_free_port_is_given_to_nobody_else_while_its_owner_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    with free_port() as port:
        monkeypatch.setattr(ports, "FREE_PORTS", [port])
        with pytest.raises(SandboxError, match="there is no free port"), free_port():
            pass


def test_a_data_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, stderr = Sandbox(tmp_path / "file").ended()
    assert (status, stderr.count("\n")) == (1, 1)
    assert f"the data directory {tmp_path / 'file'} cannot be written" in stderr


def test_a_missing_library_is_one_clear_line_that_says_make_install(
    launch: Callable[..., Sandbox], tmp_path: Path
) -> None:
    (tmp_path / "yaml.py").write_text("raise ModuleNotFoundError(\"No module named 'yaml'\", name='yaml')")
    assert launch(PYTHONPATH=str(tmp_path)).ended() == (
        1,
        "No module named 'yaml': run `make install`\n",
    )


def test_a_token_needs_a_secret_the_kept_one_or_the_environments(tmp_path: Path) -> None:
    refused = caller(tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)

    secret = "a secret of more than thirty-two bytes"
    token = caller(tmp_path, LIVE_SESSIONS_JWT_SECRET=secret).stdout.strip()
    claims = jwt.decode(token, secret, algorithms=["HS256"])
    assert (claims["id"], claims["name"], claims["role"]) == ("ins-1", "Ada", "instructor")
    assert claims["exp"] - claims["iat"] == 24 * 3600


def test_a_server_and_postgresql_come_back_at_their_addresses_after_an_end_or_a_crash(data_dir: Path) -> None:
    deep = data_dir / ("a path too long for the address of a socket" * 3)
    with Stack(deep) as stack:
        (server,) = stack.servers
        server.terminate()
        assert stack.postgres is not None
        stack.postgres.kill()
        stack.postgres.start()
        server.start()
        with psycopg.connect(stack.database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        token = stack.token(id="ins-1", name="Ada", role="instructor")
        until(lambda: create_session(stack.rest_url, token).status_code == 201)
        assert stack.environment["LIVE_SESSIONS_PUBLIC_URL"] == stack.rest_url
