"""TLS at Envoy's listeners, by the shipped file's own lines: who gets in, and certificates that change meanwhile."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox import envoy
from sandbox.certificates import CLIENT, SERVER, Authority, Pair, replace
from sandbox.ports import HOST, free_port
from sandbox.process import Process, Workspace, stop_together
from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually, http_client, new_stack, said
from tests.http2 import Http2
from tests.load import under_load

ME = "tls-ada"
NOPE = rpc.GetLiveSessionRequest(session_name="nope")
Code = grpc.StatusCode
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(scope="module")
def secure() -> Iterator[Stack]:
    with new_stack(tls=True) as running:
        yield running


@pytest.fixture(scope="module")
def authority(secure: Stack) -> Authority:
    """One of the tests' own, taken in beside the stack's while Envoy runs."""
    made = Authority("school")
    trusted = clients(secure)
    replace(trusted, trusted.read_bytes() + made.certificate)
    pair = made.issue("microservice", CLIENT)
    eventually(lambda: call(secure, pair) == Code.NOT_FOUND)
    return made


@pytest.fixture
def client(secure: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=secure.rest_url, timeout=20, trust_env=False, verify=trusting(secure)) as client:
        yield client


def directory(stack: Stack) -> Path:
    assert stack.certificates is not None
    return stack.certificates


def clients(stack: Stack) -> Path:
    """The authorities of those who may call at the gRPC listener."""
    return directory(stack) / "clients" / "ca.crt"


def own(stack: Stack) -> Pair:
    """The certificate that the sandbox makes for a client."""
    return Pair(*((directory(stack) / f"client.{kind}").read_bytes() for kind in ("crt", "key")))


def trusting(stack: Stack, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=stack.authority)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@contextmanager
def channel(stack: Stack, pair: Pair | None) -> Iterator[grpc.Channel]:
    """A connection that nobody else shares."""
    shown = (pair.key, pair.certificate) if pair else (None, None)
    assert stack.authority is not None
    credentials = grpc.ssl_channel_credentials(stack.authority.read_bytes(), *shown)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(stack.grpc_proxy, credentials, options) as channel:
        yield channel


def call(stack: Stack, pair: Pair | None) -> grpc.StatusCode:
    """What becomes of a read on a new connection."""
    with channel(stack, pair) as anew:
        return LiveSessionsStub(anew).GetLiveSession.future(NOPE, timeout=10).code()


def alert(stack: Stack, pair: Pair | None, tmp_path: Path) -> str:
    """How Envoy's gRPC listener refuses who shows this certificate. Nothing is sent, which could cross the alert."""
    context = trusting(stack, "h2")
    if pair:
        pair.write(tmp_path, "shown")
        context.load_cert_chain(tmp_path / "shown.crt", tmp_path / "shown.key")
    plain = socket.create_connection((HOST, stack.ports.proxy), timeout=10)
    with pytest.raises(ssl.SSLError) as refused, context.wrap_socket(plain, server_hostname=HOST) as connection:
        connection.recv(1)
    return str(refused.value.reason)


def serial_number(stack: Stack) -> int:
    """Of the certificate that Envoy shows now."""
    pem = ssl.get_server_certificate((HOST, stack.ports.rest))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def failed_reloads(stack: Stack) -> int:
    text = httpx.get(f"{stack.envoy_admin_url}/stats?filter=certificate.key_rotation_failed", trust_env=False).text
    return int(text.rpartition(" ")[2])


def openssl(stack: Stack, address: str, *options: str) -> str:
    """All that `openssl s_client` tells of a handshake."""
    certificates = directory(stack)
    command = ["openssl", "s_client", "-connect", address, "-CAfile", certificates / "clients" / "ca.crt", *options]
    shown = ["-cert", certificates / "client.crt", "-key", certificates / "client.key"]
    ended = subprocess.run([*command, *shown], input="", capture_output=True, text=True, timeout=20, check=False)
    return ended.stdout + ended.stderr


# Protocols


@needs_openssl
@pytest.mark.parametrize("listener", ["rest", "proxy"])
@pytest.mark.parametrize("version", ["1", "1_1"])
def test_tls_before_1_2_is_refused(secure: Stack, listener: str, version: str) -> None:
    address = f"{HOST}:{getattr(secure.ports, listener)}"
    told = openssl(secure, address, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in told


@needs_openssl
@pytest.mark.parametrize("listener", ["rest", "proxy"])
@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_tls_1_2_and_1_3_are_taken(secure: Stack, listener: str, version: str) -> None:
    told = openssl(secure, f"{HOST}:{getattr(secure.ports, listener)}", f"-tls{version}", "-verify_return_error")
    assert f"TLSv{version.replace('_', '.')}, Cipher is" in told
    assert "Verify return code: 0 (ok)" in told


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_rest_is_served_over_each_version(secure: Stack, version: ssl.TLSVersion) -> None:
    context = trusting(secure)
    context.minimum_version = context.maximum_version = version
    answer = httpx.get(f"{secure.rest_url}/health", verify=context, trust_env=False)
    assert said(answer) == (200, {"status": "ok"})


def test_rest_is_http_2_for_who_offers_it(secure: Stack) -> None:
    context = trusting(secure, "h2", "http/1.1")
    with Http2(f"{HOST}:{secure.ports.rest}", tls=context) as connection:
        assert connection.protocol == "h2"
        stream = connection.call("/health", b"", **{":method": b"GET", ":scheme": b"https"})
        assert connection.await_ends([stream]) == ["whole"]
        assert b'{"status":"ok"}' in connection.bytes_of[stream]


def test_rest_is_http_1_1_for_who_offers_nothing_else(client: httpx.Client) -> None:
    assert client.get("/health").http_version == "HTTP/1.1"


@pytest.mark.parametrize("listener", ["rest", "proxy"])
def test_nothing_is_said_to_who_speaks_no_tls(secure: Stack, listener: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://{HOST}:{getattr(secure.ports, listener)}/health", trust_env=False)


def test_the_documented_flow_and_dailys_events_come_over_tls(secure: Stack, client: httpx.Client) -> None:
    rest = Rest(secure, client)
    room = rest.create(ME)["roomName"]
    meeting_token = rest.call("POST", f"/sessions/{room}/token", ME).json()["token"]
    with http_client(str(secure.daily_url)) as stand_in:
        DailyControl(stand_in).join(room, meeting_token)
    eventually(lambda: "joinedAt" in rest.call("GET", f"/sessions/{room}/participants", ME).json()[0])


# Certificates of clients


def test_the_clients_certificate_that_the_sandbox_makes_is_let_in(secure: Stack) -> None:
    assert call(secure, own(secure)) == Code.NOT_FOUND


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (lambda _: None, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        (lambda _: Authority("school").issue("microservice", CLIENT), "TLSV1_ALERT_UNKNOWN_CA"),
        (lambda school: school.issue("microservice", CLIENT, timedelta(hours=-1)), "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        (lambda school: school.issue("microservice", SERVER), "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
    ],
    ids=["none", "of another authority with the same name", "expired", "a server's"],
)
def test_a_client_without_a_good_certificate_is_refused(
    secure: Stack, authority: Authority, tmp_path: Path, shown: Callable[[Authority], Pair | None], told: str
) -> None:
    pair = shown(authority)
    assert (call(secure, pair), alert(secure, pair, tmp_path)) == (Code.UNAVAILABLE, told)


def test_rest_asks_nobody_for_a_certificate(client: httpx.Client) -> None:
    assert said(client.get("/sessions/nope")) == (500, "Session not found")


# Certificates that change


def test_certificates_are_replaced_under_load_without_a_failed_call(secure: Stack, authority: Authority) -> None:
    """Of Envoy and of the authorities; on connections that stay and on new ones."""
    trusted, pair = clients(secure), authority.issue("microservice", CLIENT)

    def rest_anew() -> object:
        try:
            answer = httpx.get(f"{secure.rest_url}/sessions/nope", verify=trusting(secure), trust_env=False)
        except httpx.HTTPError as error:
            return repr(error)
        return answer.status_code

    with (
        channel(secure, pair) as kept,
        httpx.Client(base_url=secure.rest_url, verify=trusting(secure), trust_env=False) as client,
    ):
        callers: dict[str, Callable[[], object]] = {
            "kept rest": lambda: client.get("/sessions/nope").status_code,
            "kept grpc": lambda: LiveSessionsStub(kept).GetLiveSession.future(NOPE).code(),
        }
        callers |= {f"rest {n}": rest_anew for n in range(4)} | {
            f"grpc {n}": lambda: call(secure, pair) for n in range(4)
        }
        with under_load(callers) as load:
            for _ in range(5):
                made = authority.issue("envoy", SERVER)
                made.write(directory(secure) / "tls", "tls")
                replace(trusted, trusted.read_bytes() + Authority("one more").certificate)
                number = x509.load_pem_x509_certificate(made.certificate).serial_number
                eventually(lambda number=number: serial_number(secure) == number)
                enough = len(load.outcomes) + 100
                eventually(lambda enough=enough: len(load.outcomes) > enough, 30)
    assert {each.who for each in load.outcomes} == set(callers)
    assert {each.said for each in load.outcomes} == {500, Code.NOT_FOUND}


def test_a_key_without_its_certificate_changes_nothing_until_that_is_there_too(
    secure: Stack, authority: Authority, client: httpx.Client
) -> None:
    made, before, failed = authority.issue("envoy", SERVER), serial_number(secure), failed_reloads(secure)
    replace(directory(secure) / "tls" / "tls.key", made.key)
    eventually(lambda: failed_reloads(secure) == failed + 1)
    assert serial_number(secure) == before
    assert client.get("/health").status_code == 200
    replace(directory(secure) / "tls" / "tls.crt", made.certificate)
    number = x509.load_pem_x509_certificate(made.certificate).serial_number
    eventually(lambda: serial_number(secure) == number)


def test_a_client_whose_authority_was_taken_away_is_refused_at_its_next_connection(secure: Stack) -> None:
    leaving, trusted = Authority("leaving"), clients(secure)
    pair, before = leaving.issue("microservice", CLIENT), trusted.read_bytes()
    replace(trusted, before + leaving.certificate)
    eventually(lambda: call(secure, pair) == Code.NOT_FOUND)
    replace(trusted, before)
    eventually(lambda: call(secure, pair) == Code.UNAVAILABLE)
    assert call(secure, own(secure)) == Code.NOT_FOUND


def test_without_certificates_envoy_lets_nobody_in(secure: Stack, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.claim()
    missing = tmp_path / "missing"
    missing.mkdir()
    envoy.point_to(missing)
    with free_port() as rest, free_port() as proxy, free_port() as metrics, free_port() as admin:
        file = tmp_path / "envoy.yaml"
        addresses = envoy.Addresses(rest, proxy, metrics, admin, secure.grpc_targets, certificates=missing)
        file.write_text(envoy.configuration(addresses))
        live = f"http://{HOST}:{admin}/ready"
        command = [envoy.BINARY, "-c", file, *envoy.OPTIONS]
        process = Process("envoy", command, workspace, ready=lambda: answers(live))
        try:
            process.start()
            for url in (
                f"https://{HOST}:{rest}/health",
                f"http://{HOST}:{rest}/health",
                f"http://{HOST}:{proxy}/health",
            ):
                with pytest.raises(httpx.TransportError):
                    httpx.get(url, verify=trusting(secure), trust_env=False)
        finally:
            stop_together(process)
            workspace.release()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
