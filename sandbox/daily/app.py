"""The HTTP side: reads requests, checks the API key, applies faults, runs handlers, shapes errors."""

import asyncio
import hmac
import inspect
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import calls, recordings
from .control import CONTROL, check_file
from .delivery import Delivery
from .errors import DailyError, invalid, nobody_in_call
from .faults import Fault, Faults
from .handlers import API, Call, Daily, Handler
from .settings import Settings
from .state import State
from .tokens import Tokens

TICK = 0.05
FILE = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + b"\x00\x00\x00\x08free"  # an empty MP4
Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    api_key: str, domain: str, path: Path | None, settings: Settings, origins: Sequence[str] = ()
) -> Starlette:
    """`path` is where its state is kept, if it is; `origins` are those whose pages may call it."""
    state, faults = State(path, replace(settings)), Faults()
    delivery = Delivery(state, faults)
    state.listener = delivery.take
    daily = Daily(domain, settings, state, Tokens(api_key, state.domain_id), faults, delivery)
    calls.rearm(state)
    recordings.rearm(state)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        clock = asyncio.create_task(_clock(state))
        yield
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        await delivery.close()
        state.save()

    routes = [_route("/v1", text, _api(daily, text, handler)) for text, handler in API.items()]
    routes += [_route("/sandbox", text, _control(daily, handler)) for text, handler in CONTROL.items()]
    routes.append(Route("/sandbox/files/{id}.mp4", _file(daily)))
    handlers: dict[Any, Any] = {DailyError: _daily_error, HTTPException: _unknown_route}
    cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"])
    app = Starlette(routes=routes, middleware=[cors], lifespan=lifespan, exception_handlers=handlers)
    app.state.faults = faults
    return app


async def _clock(state: State) -> None:
    """Makes time pass."""
    while True:
        await asyncio.sleep(TICK)
        state.advance()
        state.save_if_due()


def _route(prefix: str, text: str, endpoint: Endpoint) -> Route:
    method, template = text.split(" ")
    return Route(prefix + re.sub(r":(\w+)", r"{\1}", template), endpoint, methods=[method])


def _api(daily: Daily, text: str, handler: Handler) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        daily.calls[text] = daily.calls.get(text, 0) + 1
        _authenticate(request, daily.tokens.api_key)
        if daily.state.settings.limits:
            daily.limits.admit(text)
        call = await _read(daily, request)
        if fault := daily.faults.take_for_call(request.method, request.url.path.removeprefix("/v1")):
            return await _faulty(fault, request, call, handler)
        return await _answer(request, call, handler)

    return endpoint


def _control(daily: Daily, handler: Handler) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await _answer(request, await _read(daily, request), handler)

    return endpoint


def _file(daily: Daily) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        check_file(await _read(daily, request))
        return Response(FILE, media_type="video/mp4")

    return endpoint


def _authenticate(request: Request, api_key: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise DailyError(400, "the authorization header must be 'Bearer <API key>'", error="authorization-header-error")
    if not hmac.compare_digest(given.encode(), api_key.encode()):
        raise DailyError(401)


async def _read(daily: Daily, request: Request) -> Call:
    raw = await request.body()
    try:
        body = json.loads(raw) if raw.strip() else {}
    except ValueError:
        raise DailyError(400, "the body is not valid JSON", error="json-parsing-error") from None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return Call(daily, request.path_params, request.query_params, body, str(request.base_url).rstrip("/"))


async def _answer(request: Request, call: Call, handler: Handler) -> Response:
    try:
        result = handler(call)
        if inspect.isawaitable(result):
            result = await result
    finally:
        call.state.changed |= request.method != "GET"
    return JSONResponse(result)


async def _faulty(fault: Fault, request: Request, call: Call, handler: Handler) -> Response:
    match fault.fault:
        case "status":
            raise DailyError(fault.status or 500, "a fault was set for this call")
        case "rate_limit":
            raise DailyError(429, "rate limit exceeded")
        case "nobody_in_call":
            raise nobody_in_call(call.path.get("name", ""))
        case "hang":
            await _hang(request, call.daily.faults.cleared)
            return await _drop(request)
        case "lost_answer":
            with suppress(DailyError):
                await _answer(request, call, handler)
            return await _drop(request)
        case _:
            await asyncio.sleep(fault.seconds or 0)
            return await _answer(request, call, handler)


async def _hang(request: Request, cleared: asyncio.Event) -> None:
    """Until the client goes away or the faults are cleared."""
    waits = [asyncio.create_task(_gone(request)), asyncio.create_task(cleared.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()


async def _drop(request: Request) -> Response:
    """Closes the connection. The response it returns is never sent."""
    request.state.transport.close()
    await _gone(request)
    return Response()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _daily_error(_: Request, error: DailyError) -> Response:
    return JSONResponse(error.body, error.status)


async def _unknown_route(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": "not-found", "info": error.detail}, 404)
