"""Daily.co at the wire, as no stand-in would be: it answers what a test says, and remembers what it was asked."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.ports import HOST, free_port
from server.daily.client import Daily
from server.daily.gateway import RATES
from storage.budgets import Budgets

KEY = "a key of Daily's, which has more than 32 bytes"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    cookies: dict[str, str]

    @property
    def call(self) -> str:
        return f"{self.method} {self.path}"


class Wire:
    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self.open = asyncio.Event()
        """While it is not set, no request is answered."""
        self.open.set()
        self._answers: defaultdict[str, list[Response]] = defaultdict(list)

    def forget(self) -> None:
        self.asked.clear()
        self._answers.clear()
        self.open.set()

    @property
    def calls(self) -> list[str]:
        return [asked.call for asked in self.asked]

    def answers(self, call: str, body: Any, status: int = 200, **headers: str) -> None:
        """The next answer to "METHOD /path", and all later ones if it is the last that was said. A body that is text is
        sent as it is."""
        content = body if isinstance(body, str) else json.dumps(body)
        self._answers[call].append(Response(content, status, headers, media_type="application/json"))

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        asked = Asked(
            method=request.method,
            path=request.scope["raw_path"].decode(),
            query=dict(request.query_params),
            body=json.loads(body) if body else None,
            cookies=request.cookies,
        )
        self.asked.append(asked)
        await self.open.wait()
        told = self._answers[asked.call]
        return told.pop(0) if len(told) > 1 else told[0] if told else Response("{}", media_type="application/json")


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    with free_port() as port:
        daily = Wire(f"http://{HOST}:{port}")
        route = Route("/{path:path}", daily.__call__, methods=["GET", "POST", "DELETE"])
        config = uvicorn.Config(
            Starlette(routes=[route]), host=HOST, port=port, log_level="warning", ws="none", lifespan="off"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        try:
            await until(lambda: server.started)
            yield daily
        finally:
            daily.open.set()
            server.should_exit = True
            await serving


async def until(condition: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def budgets(database_url: str) -> AsyncIterator[Budgets]:
    """One process's share of the deployment's budget."""
    shared = Budgets(lambda: psycopg.AsyncConnection.connect(database_url), RATES)
    try:
        yield shared
    finally:
        await shared.close()


@asynccontextmanager
async def client(daily_url: str, database_url: str, api_key: str = KEY) -> AsyncIterator[Daily]:
    """Daily as one process of the server knows it."""
    async with budgets(database_url) as budget:
        daily = Daily(
            daily_url,
            api_key,
            budget,
            recall_domain=budget.recall_domain,
            remember_domain=budget.remember_domain,
        )
        try:
            yield daily
        finally:
            await daily.close()
