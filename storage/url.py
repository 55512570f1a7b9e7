"""A database's URL: whether it can be used at all (what libpq says of a bad one would show its password), what may be
shown of it, and how it is dialled."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

CONNECT_TIMEOUT = 2
UNLESS_GIVEN = {
    # Of several hosts, and of one whose address moves, the one that takes writes.
    "target_session_attrs": "read-write",
    # A host that has vanished is noticed within seconds, by connections that wait for it as by those that are kept.
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def is_valid(url: str) -> bool:
    try:
        ports = str(conninfo_to_dict(url).get("port") or "")
    except psycopg.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))


def dialled(url: str) -> str:
    """What is given to libpq."""
    parts: dict[str, Any] = UNLESS_GIVEN | conninfo_to_dict(url)
    return make_conninfo(**parts)


def place(url: str) -> str:
    """Where the database is: hosts and name, without user and password."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"
