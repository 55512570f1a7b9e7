"""A database's URL: whether it can be used at all, and what may be shown of it. What libpq says of a bad one would show
its password."""

import psycopg
from psycopg.conninfo import conninfo_to_dict


def is_valid(url: str) -> bool:
    try:
        ports = str(conninfo_to_dict(url).get("port") or "")
    except psycopg.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))


def place(url: str) -> str:
    """Where the database is: hosts and name, without user and password."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"
