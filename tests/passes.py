"""One pass of the reconciler at a time when a test wants it, narrowed to one room. The stack's own leader, at work all
the while, may come first: what is repaired is the same."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from sandbox.stack import Stack
from server.daily.client import Daily
from server.upkeep.reconciler import Reconciler
from server.upkeep.repairs import differences
from storage.store import Store
from tests.clients import DailyControl, Rest, eventually


def reconcile(stack: Stack, room_name: str) -> None:
    asyncio.run(_reconcile(stack, room_name))


async def _reconcile(stack: Stack, room_name: str) -> None:
    settings = stack.environment
    store = Store(settings["LIVE_SESSIONS_DATABASE_URL"])
    daily = Daily(settings["LIVE_SESSIONS_DAILY_API_URL"], settings["LIVE_SESSIONS_DAILY_API_KEY"])
    reconciler = Reconciler(store, daily)
    async for repair in differences(store, daily, datetime.now(UTC) - timedelta(minutes=5)):
        if repair.room_name == room_name:
            await reconciler.repair(repair)
    await daily.close()
    await store.close()


def at_daily(stack: Stack, method: str, path: str, **body: object) -> httpx.Response:
    """Calls Daily behind our service's back: its API under /v1, the stand-in's control under /sandbox."""
    headers = {"Authorization": f"Bearer {stack.environment['LIVE_SESSIONS_DAILY_API_KEY']}"}
    answer = httpx.request(method, f"{stack.daily_url}{path}", json=body, headers=headers, trust_env=False, timeout=20)
    assert answer.is_success, answer.text
    return answer


def entry(rest: Rest, instructor: str, room: str) -> dict[str, Any]:
    """The one recording of the session."""
    [one] = rest.call("GET", f"/sessions/{room}/recordings", instructor).json()
    return dict(one)


def at_end(daily: DailyControl, room: str, status: str = "finished", seconds: float = 15) -> dict[str, Any]:
    """Daily's recording of the room that has come to this status."""
    return eventually(lambda: next((one for one in daily.recordings(room) if one["status"] == status), {}), seconds)
