"""The whole stack: its parts started in order, each awaited until it answers, and stopped in reverse."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sandbox import certificates, envoy, postgres
from sandbox.ports import HOST, asked_port, free_port
from sandbox.process import Process, SandboxError, Workspace, stop_together
from sandbox.token import JWT_SETTINGS, caller_token, given_settings, make_secrets

SERVICE = "live_sessions.v1.LiveSessions"
WEBHOOK = "/webhooks/daily"


@dataclass(frozen=True)
class Ports:
    """The ports asked for; 0 is a free one. Worker i listens on `grpc` + i. Without `pages` there are none."""

    rest: int = 0
    grpc: int = 0
    daily: int = 0
    proxy: int = 0
    pages: int | None = None


ANY = Ports()


class Stack:
    """The running stack, between `__enter__` and `__exit__`.

    LIVE_SESSIONS_… variables that are set win; `postgres` or `daily` is None where they name another. `daily_options`
    are those of `python -m sandbox.daily`. With `tls`, Envoy's listeners speak it, by certificates made at the start.
    """

    def __init__(
        self,
        data_dir: Path,
        ports: Ports = ANY,
        workers: int = 1,
        interrupted: Callable[[], bool] = lambda: False,
        daily_options: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        self._workspace = Workspace(data_dir, interrupted)
        self.certificates = self._workspace.path / "certificates" if tls else None
        self._asked, self._workers, self._daily_options = ports, workers, daily_options
        self._given = given_settings()
        self._parts: list[Process] = []
        self._cleanup = ExitStack()
        self.postgres: postgres.Postgres | None = None
        self.daily: Process | None = None
        self.servers: list[Process] = []

    def __enter__(self) -> Self:
        try:
            _require(envoy.BINARY, *([postgres.BINARY] if self._own_postgres else []))
            self._cleanup.callback(self._workspace.release)
            self._workspace.claim()
            self._choose_ports()
            self._secrets = make_secrets(self._workspace.path)
            if self.certificates:
                certificates.make(self.certificates)
                envoy.point_to(self.certificates)
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @property
    def rest_url(self) -> str:
        return f"{'https' if self.certificates else 'http'}://{HOST}:{self.ports.rest}"

    @property
    def authority(self) -> Path | None:
        """The certificate that REST's clients trust, with TLS."""
        return self.certificates / "clients" / "ca.crt" if self.certificates else None

    @property
    def grpc_targets(self) -> list[str]:
        return [f"{HOST}:{port}" for port in self._server_ports]

    @property
    def grpc_proxy(self) -> str:
        return f"{HOST}:{self.ports.proxy}"

    @property
    def envoy_admin_url(self) -> str:
        return f"http://{HOST}:{self._admin_port}"

    @property
    def pages_url(self) -> str | None:
        return None if self.ports.pages is None else f"http://{HOST}:{self.ports.pages}"

    @property
    def daily_url(self) -> str | None:
        return f"http://{HOST}:{self.ports.daily}" if self._own_daily else None

    @property
    def database_url(self) -> str:
        return self.postgres.url if self.postgres else self._given["LIVE_SESSIONS_DATABASE_URL"]

    @property
    def metrics_urls(self) -> list[str]:
        """Envoy's, then the servers'."""
        return [f"http://{HOST}:{port}/metrics" for port in (self._edge_metrics_port, *self._metrics_ports)]

    @property
    def logs(self) -> Path:
        return self._workspace.logs

    @property
    def environment(self) -> dict[str, str]:
        """The settings that the first server gets; the others differ in their address."""
        made = {"LIVE_SESSIONS_DATABASE_URL": self.database_url}
        if self._daily_reaches_it:
            made["LIVE_SESSIONS_PUBLIC_URL"] = self.rest_url
            made["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"] = self._secrets["LIVE_SESSIONS_DAILY_WEBHOOK_SECRET"]
        if self._own_daily:
            made["LIVE_SESSIONS_DAILY_API_URL"] = f"{self.daily_url}/v1"
            made["LIVE_SESSIONS_DAILY_API_KEY"] = self._secrets["LIVE_SESSIONS_DAILY_API_KEY"]
        if not self._given.keys() & set(JWT_SETTINGS):
            made["LIVE_SESSIONS_JWT_SECRET"] = self._secrets["LIVE_SESSIONS_JWT_SECRET"]
        return made | self._given | {"LIVE_SESSIONS_GRPC_ADDRESS": self.grpc_targets[0]}

    def envoy_addresses(self, admin_port: int) -> envoy.Addresses:
        """For Envoy on the stack's ports, or another beside it with an admin port of its own; with the collector of the
        servers' traces, if the standard variable names one on this machine's network."""
        collector = urlsplit(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")).netloc or None
        ports, metrics = self.ports, self._edge_metrics_port
        return envoy.Addresses(
            rest=ports.rest,
            grpc=ports.proxy,
            metrics=metrics,
            admin=admin_port,
            servers=self.grpc_targets,
            collector=collector,
            certificates=self.certificates,
            origins=self._origins,
        )

    def token(self, id: str, name: str, role: str) -> str:
        return caller_token(self.environment, id, name, role)

    def watch(self) -> None:
        """Return when the sandbox is asked to stop; raise when a part ends by itself."""
        while not self._workspace.interrupted():
            for part in self._parts:
                if part.ended:
                    raise SandboxError(part.epitaph())
            time.sleep(0.1)

    @property
    def _own_daily(self) -> bool:
        return "LIVE_SESSIONS_DAILY_API_KEY" not in self._given

    @property
    def _daily_reaches_it(self) -> bool:
        """Daily.co itself does not find this machine, unless its user says how."""
        return self._own_daily or "LIVE_SESSIONS_PUBLIC_URL" in self._given

    @property
    def _own_postgres(self) -> bool:
        return "LIVE_SESSIONS_DATABASE_URL" not in self._given

    def _choose_ports(self) -> None:
        """Fix every port, and see that nobody else has it, before anything is started."""
        asked = self._asked
        with ExitStack() as until_chosen:

            def choose(port: int, flag: str) -> int:
                if port:
                    return until_chosen.enter_context(asked_port(port, flag))
                return self._cleanup.enter_context(free_port())

            rest, proxy = choose(asked.rest, "--rest-port"), choose(asked.proxy, "--proxy-port")
            daily = choose(asked.daily if self._own_daily else 0, "--daily-port")
            pages = None if asked.pages is None else choose(asked.pages, "--pages-port")
            self._admin_port = choose(0, "")
            self._edge_metrics_port, *self._metrics_ports = [choose(0, "") for _ in range(1 + self._workers)]
            self._server_ports = [choose(asked.grpc and asked.grpc + i, "--grpc-port") for i in range(self._workers)]
        self.ports = Ports(rest, self._server_ports[0], daily, proxy, pages)

    def _start(self) -> None:
        if self._own_postgres:
            self.postgres = postgres.Postgres(self._workspace)
            self._add(self.postgres)
        self._server("migrate", "migrate").run()
        if self._own_daily:
            self.daily = self._stand_in()
            self._add(self.daily)
            self._take_webhook_along()
        self.servers = [self._worker(i, target) for i, target in enumerate(self.grpc_targets)]
        self._add(*self.servers)
        self.envoy = self._envoy()
        self._add(self.envoy)
        if self.pages_url is not None:
            self._add(self._pages())
        if self._daily_reaches_it:
            self._server("register-webhook", "register-webhook").run()

    def _add(self, *parts: Process) -> None:
        """Start parts beside each other, and wait for all."""
        self._cleanup.callback(stop_together, *parts)
        self._parts += parts
        for part in parts:
            part.spawn()
        for part in parts:
            part.wait_ready()

    def _server(self, name: str, *arguments: str) -> Process:
        return Process(name, [sys.executable, "-m", "server", *arguments], self._workspace, self.environment)

    def _worker(self, number: int, target: str) -> Process:
        return Process(
            f"server-{number}",
            [sys.executable, "-m", "server"],
            self._workspace,
            self.environment
            | {
                "LIVE_SESSIONS_GRPC_ADDRESS": target,
                "LIVE_SESSIONS_METRICS_ADDRESS": f"{HOST}:{self._metrics_ports[number]}",
            },
            lambda: _serves(target),
        )

    def _stand_in(self) -> Process:
        options = [
            f"--port={self.ports.daily}",
            f"--api-key={self._secrets['LIVE_SESSIONS_DAILY_API_KEY']}",
            "--domain=sandbox",
            f"--state={self._workspace.path / 'daily.json'}",
            *(f"--origin={origin}" for origin in self._origins),
            *self._daily_options,
        ]
        command = [sys.executable, "-m", "sandbox.daily", *options]
        ready = f"{self.daily_url}/sandbox/calls"  # cheap, however large the state is
        trust = {"SSL_CERT_FILE": str(self.authority)} if self.authority else {}
        return Process("daily", command, self._workspace, trust, ready=lambda: _answers(ready))

    def _take_webhook_along(self) -> None:
        """Let what the stand-in has kept lead here, if this stack was on another port before, or without TLS."""
        with httpx.Client(base_url=f"{self.daily_url}/sandbox/", timeout=60, trust_env=False) as control:
            for webhook in control.get("state").json()["webhooks"]:
                if webhook["url"].endswith(WEBHOOK):
                    url = self.environment["LIVE_SESSIONS_PUBLIC_URL"] + WEBHOOK
                    control.post(f"webhooks/{webhook['uuid']}", json={"url": url}).raise_for_status()

    @property
    def _origins(self) -> list[str]:
        """Those of the pages, which may call as a product's own pages may."""
        return [] if self.pages_url is None else [self.pages_url, f"http://localhost:{self.ports.pages}"]

    def _pages(self) -> Process:
        options = [f"--port={self.ports.pages}", f"--rest-url={self.rest_url}"]
        if self.daily_url is not None:
            options.append(f"--daily-url={self.daily_url}")
        command = [sys.executable, "-m", "sandbox.pages", *options]
        ready = f"{self.pages_url}/stack.json"
        return Process("pages", command, self._workspace, self.environment, lambda: _answers(ready))

    def _envoy(self) -> Process:
        """Ready when it is live and reaches a server, which it has then found healthy."""
        file = self._workspace.path / "envoy.yaml"
        file.write_text(envoy.configuration(self.envoy_addresses(self._admin_port)))
        urls = [f"{self.envoy_admin_url}/ready", f"{self.rest_url}/sessions/instructor/nobody"]
        command = [envoy.BINARY, "-c", file, *envoy.OPTIONS]
        return Process(
            "envoy", command, self._workspace, ready=lambda: all(_answers(url, self.authority) for url in urls)
        )


def _require(*binaries: Path) -> None:
    for binary in binaries:
        try:
            subprocess.run([binary, "--version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SandboxError(f"{binary.name} cannot be executed ({error}): run `make install`") from error


def _answers(url: str, authority: Path | None = None) -> bool:
    trusted = ssl.create_default_context(cafile=authority)
    try:
        return httpx.get(url, timeout=5, trust_env=False, verify=trusted).is_success
    except httpx.HTTPError:
        return False


def _serves(target: str) -> bool:
    """Whether the server's health is SERVING. Nothing is shared with earlier tries, nor their backoff."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options) as channel:
        return is_serving(channel)


def is_serving(channel: grpc.Channel) -> bool:
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=2)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
