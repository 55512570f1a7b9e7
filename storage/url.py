"""Whether a database's URL can be used at all; what libpq says of a bad one would show its password."""

import psycopg
from psycopg.conninfo import conninfo_to_dict


def is_valid(url: str) -> bool:
    try:
        ports = str(conninfo_to_dict(url).get("port") or "")
    except psycopg.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))
