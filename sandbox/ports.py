"""Ports on loopback: those asked for, and free ones, which stay one owner's while its process is down for a while."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE
from secrets import SystemRandom

from sandbox.process import SandboxError

HOST = "127.0.0.1"
# Below the ports of outgoing connections, one of which could take the port of a part while it restarts.
FREE_PORTS = range(20000, 32000)


@contextmanager
def free_port() -> Iterator[int]:
    """One that nobody listens on and that nobody else is given before the end.

    What keeps others off is a UDP socket of that number, which goes with this process, however it ends.
    """
    for port in SystemRandom().sample(FREE_PORTS, len(FREE_PORTS)):
        with socket.socket(type=socket.SOCK_DGRAM) as mark:
            try:
                mark.bind((HOST, port))
                socket.create_server((HOST, port)).close()
            except OSError:
                continue
            yield port
            return
    raise SandboxError("there is no free port")


@contextmanager
def asked_port(port: int, flag: str) -> Iterator[int]:
    """The port, which is nobody else's until the end; SandboxError names it and its flag where it cannot be had."""
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        reason = "is in use" if error.errno == EADDRINUSE else f"cannot be used: {error}"
        raise SandboxError(f"port {port} ({flag}) {reason}") from None
    except OverflowError:
        raise SandboxError(f"port {port} ({flag}) is above 65535") from None
    with listening:
        yield port
