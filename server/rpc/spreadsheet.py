"""Attendance as a table for spreadsheets: CSV as RFC 4180 has it, in UTF-8 with the byte order mark by which they know
it from older encodings."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import datetime

from server.usecases.report import Attendance

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"
HEADER = ("userId", "name", "role", "joinedAt", "leftAt", "duration", "share", "stays")
RUNS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins with one of these for something to compute."""


async def attendance(records: AsyncIterator[Attendance]) -> bytes:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(HEADER)
    async for one in records:
        cells = (one.user_id, one.name or "", one.role, _time(one.joined_at), _time(one.left_at))
        table.writerow([*map(_harmless, cells), one.duration, f"{one.share:.2f}", len(one.stays)])
    return file.getvalue().encode("utf-8-sig")


def _time(time: datetime | None) -> str:
    return "" if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(RUNS) else cell
