"""Rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_sessions.v1 import errors_pb2, resources_pb2, service_pb2
from live_sessions.v1.errors_pb2 import ErrorReason

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for part in ("server", "storage", "sandbox") for path in (ROOT / part).rglob("*.py"))
SERVICE = [path for path in MODULES if not path.is_relative_to(ROOT / "sandbox")]
STORAGE = {str(path.relative_to(ROOT)) for path in MODULES if path.is_relative_to(ROOT / "storage")}


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def who_imports(*packages: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in SERVICE if imports(path) & set(packages)}


def who_names(attribute: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in SERVICE
        if any(isinstance(node, ast.Attribute) and node.attr == attribute for node in nodes(path))
    }


def reasons(path: Path) -> Iterator[str]:
    """The names of error reasons in a module: written in capitals, wherever an error of ours is made or defined."""
    for node in nodes(path):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "reason" for t in node.targets):
            yield from texts([node.value])
        if isinstance(node, ast.Call):
            yield from texts([keyword.value for keyword in node.keywords if keyword.arg == "reason"])
            if isinstance(node.func, ast.Name) and node.func.id in ("NotFound", "FailedPrecondition"):
                yield from texts(node.args[1:])


def texts(values: list[ast.expr]) -> list[str]:
    return [str(value.value) for value in values if isinstance(value, ast.Constant)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_opens_with_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_only_the_interceptor_aborts_calls() -> None:
    assert who_names("abort") == {"server/rpc/interceptors.py"}


def test_only_the_settings_read_the_environment() -> None:
    writes_it = "server/__init__.py"
    assert who_names("environ") - {writes_it} == {"server/settings.py"}
    assert who_names("getenv") == set()


def test_only_the_gateway_to_daily_and_the_way_to_the_products_back_end_know_httpx() -> None:
    assert who_imports("httpx") == {"server/daily/gateway.py", "server/receiver.py"}


def test_only_the_metrics_know_prometheus() -> None:
    assert who_imports("prometheus_client") == {"server/metrics.py"}


def test_only_one_module_knows_opentelemetry() -> None:
    assert who_imports("opentelemetry") == {"server/otel.py"}


def test_only_the_storage_knows_the_database_and_its_tools() -> None:
    assert who_imports("sqlalchemy", "psycopg", "alembic") <= STORAGE


def test_only_the_door_knows_grpc() -> None:
    known = who_imports("grpc", "google", "live_sessions", "grpc_health", "grpc_reflection")
    assert {path for path in known if not path.startswith("server/rpc/")} == set()


def test_every_reason_in_the_code_is_in_the_contract_and_is_used() -> None:
    used = {f"ERROR_REASON_{reason}" for path in SERVICE for reason in reasons(path)}
    assert used == set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}


def test_the_contract_names_one_package_for_go() -> None:
    """Which protoc-gen-go demands: an import path with a slash or a dot in it."""
    files = (errors_pb2, resources_pb2, service_pb2)
    assert {file.DESCRIPTOR.GetOptions().go_package for file in files} == {
        "live-sessions/gen/live_sessions/v1;live_sessionsv1"
    }
