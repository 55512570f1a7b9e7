"""`python -m sandbox`: the whole stack until Ctrl-C; `python -m sandbox token`: a caller's token."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.stack import Stack

PAGE = """
The stack is running. Ctrl-C stops it.

  REST        {rest_url}
  pages       {pages_url}/classroom.html (hold a class: an instructor and students, each in a window)
              {pages_url}/api.html (every operation, and a try at it)
  gRPC        {servers}; through Envoy: {grpc_proxy}
  Daily.co    {daily}
  PostgreSQL  {database}
  Prometheus  {metrics}
  logs        {logs}
"""

CALLERS = """
Two callers, for 24 hours (others: python -m sandbox token --id ID --name NAME --role ROLE):

  ADA={ada}
  SAM={sam}

An instructor creates a session and records it, a student asks for a token to join:

  {curl} {rest_url}/sessions -H "Authorization: Bearer $ADA" -H 'Content-Type: application/json' \\
    -d '{{"courseId": "course-1", "startsAt": "2030-01-01T10:00:00Z", "recordingEnabled": true}}'
  NAME=the answer's roomName
  {curl} {rest_url}/sessions/instructor/ins-1
  {curl} -X POST {rest_url}/sessions/$NAME/start-recording -H "Authorization: Bearer $ADA"
  {curl} -X POST {rest_url}/sessions/$NAME/token -H "Authorization: Bearer $SAM"
  {curl} -X POST {rest_url}/sessions/$NAME/stop-recording -H "Authorization: Bearer $ADA"
  {curl} {rest_url}/sessions/$NAME/recording -H "Authorization: Bearer $ADA"
"""

TLS = """
Envoy speaks TLS, and asks microservices for their certificate. All certificates are made anew at each start, in

  CERTIFICATES={certificates}

The pages work in a browser that trusts $CERTIFICATES/clients/ca.crt, or in which {rest_url} was opened once and its
certificate accepted.

  grpcurl -cacert $CERTIFICATES/clients/ca.crt -cert $CERTIFICATES/client.crt -key $CERTIFICATES/client.key \\
    {grpc_proxy} list
  buf curl --cacert $CERTIFICATES/clients/ca.crt --cert $CERTIFICATES/client.crt --key $CERTIFICATES/client.key \\
    --protocol grpc --list-methods https://{grpc_proxy}
"""


def main() -> int:
    arguments = _parser().parse_args()
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.append(number))
    try:  # only here are the libraries imported, which takes its time and fails where they are not installed
        return _command(arguments, lambda: bool(received))
    except ImportError as error:
        print(f"{error}: run `make install`", file=sys.stderr)
        return 1


def _command(arguments: argparse.Namespace, interrupted: Callable[[], bool]) -> int:
    from sandbox.process import Interrupted, SandboxError

    try:
        if arguments.command == "token":
            _print_token(arguments)
        else:
            _run(arguments, interrupted)
    except Interrupted:
        return 0
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(arguments: argparse.Namespace, interrupted: Callable[[], bool]) -> None:
    from sandbox.stack import Ports, Stack

    ports = Ports(
        arguments.rest_port, arguments.grpc_port, arguments.daily_port, arguments.proxy_port, arguments.pages_port
    )
    daily_options = ["--limits"] if arguments.limits else []
    with Stack(arguments.data_dir, ports, arguments.workers, interrupted, daily_options, arguments.tls) as stack:
        print(_page(stack))
        print(json.dumps({"ready": True, **_whereabouts(stack)}), flush=True)
        stack.watch()


def _print_token(arguments: argparse.Namespace) -> None:
    from sandbox.token import caller_settings, caller_token

    settings = caller_settings(arguments.data_dir)
    print(caller_token(settings, arguments.id, arguments.name, arguments.role))


def _page(stack: "Stack") -> str:
    page = PAGE.format(
        rest_url=stack.rest_url,
        pages_url=stack.pages_url,
        servers=", ".join(stack.grpc_targets),
        grpc_proxy=stack.grpc_proxy,
        daily=f"{stack.daily_url}/sandbox/state (a stand-in)" if stack.daily else "as LIVE_SESSIONS_DAILY_API_KEY says",
        database=stack.database_url if stack.postgres else "as LIVE_SESSIONS_DATABASE_URL says",
        metrics=", ".join(stack.metrics_urls),
        logs=stack.logs,
    )
    if stack.certificates:
        page += TLS.format(certificates=stack.certificates, rest_url=stack.rest_url, grpc_proxy=stack.grpc_proxy)
    if "LIVE_SESSIONS_JWT_SECRET" not in stack.environment:
        return page
    ada = stack.token(id="ins-1", name="Ada", role="instructor")
    sam = stack.token(id="stu-1", name="Sam", role="student")
    curl = "curl -s --cacert $CERTIFICATES/clients/ca.crt" if stack.certificates else "curl -s"
    return page + CALLERS.format(ada=ada, sam=sam, curl=curl, rest_url=stack.rest_url)


def _whereabouts(stack: "Stack") -> dict[str, object]:
    names = ("rest_url", "pages_url", "grpc_targets", "grpc_proxy", "daily_url", "database_url", "metrics_urls")
    with_tls = {"certificates": str(stack.certificates)} if stack.certificates else {}
    return {name: getattr(stack, name) for name in names} | with_tls


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    for name, port, what in (
        ("rest", 8080, "REST, at Envoy"),
        ("grpc", 50051, "the first server; each further one has the next port"),
        ("daily", 8090, "the stand-in for Daily.co"),
        ("proxy", 8081, "gRPC, at Envoy"),
        ("pages", 8088, "the pages"),
    ):
        text = f"{what} (default {port}; 0: a free one)"
        parser.add_argument(f"--{name}-port", type=_port, default=port, metavar="PORT", help=text)
    kept = "where data, secrets and logs are kept (default .data)"
    parser.add_argument("--data-dir", type=Path, default=Path(".data"), metavar="DIR", help=kept)
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="servers (default 1)")
    limits = "let the stand-in refuse what is over Daily's rate limits"
    parser.add_argument("--limits", action="store_true", help=limits)
    tls = "let Envoy speak TLS, and ask gRPC's clients for their certificates; all are made on the spot"
    parser.add_argument("--tls", action="store_true", help=tls)
    commands = parser.add_subparsers(dest="command", metavar="token")
    token = commands.add_parser("token", help="print a caller's token")
    for name in ("id", "name"):
        token.add_argument(f"--{name}", required=True)
    token.add_argument("--role", required=True, choices=("instructor", "student"))
    token.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR")
    return parser


def _port(text: str) -> int:
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
