"""`python -m sandbox.pages --port PORT --rest-url URL [--daily-url URL]`: serves the pages on 127.0.0.1 until SIGTERM.

They are a product's front end: from an origin of their own they call the REST API, at Envoy, and join the call, at
the stand-in. This process is the product's back end: who signs in gets a caller's token.
"""

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sandbox.process import ROOT, SandboxError
from sandbox.token import caller_token, given_settings

DOCUMENT = ROOT / "docs" / "openapi.yaml"
STATIC = Path(__file__).parent / "static"


def create_app(rest_url: str, daily_url: str | None) -> Starlette:
    """`daily_url` is the stand-in's; None where rooms are Daily.co's own."""

    async def home(_: Request) -> Response:
        return RedirectResponse("/classroom.html")

    async def stack(_: Request) -> Response:
        return JSONResponse({"rest_url": rest_url, "daily_url": daily_url})

    async def document(_: Request) -> Response:
        here = [{"url": rest_url, "description": "this sandbox"}]
        return JSONResponse(yaml.safe_load(DOCUMENT.read_text()) | {"servers": here})

    routes = [
        Route("/", home),
        Route("/stack.json", stack),
        Route("/openapi.json", document),
        Route("/sign-in", sign_in, methods=["POST"]),
        Mount("/", StaticFiles(directory=STATIC)),
    ]
    # Not under another name: a page elsewhere that points its name here would get tokens.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


async def sign_in(request: Request) -> Response:
    """A caller's token for whoever says who they are."""
    with suppress(ValueError):
        who: Any = json.loads(await request.body())
        if isinstance(who, dict) and all(isinstance(who.get(name), str) for name in ("id", "name", "role")):
            return _token(who["id"], who["name"], who["role"])
    return JSONResponse({"error": "id, name and role are required"}, 400)


def _token(id: str, name: str, role: str) -> Response:
    try:
        return JSONResponse({"token": caller_token(given_settings(), id, name, role)})
    except SandboxError as error:
        return JSONResponse({"error": str(error)}, 409)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.pages", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest-url", required=True)
    parser.add_argument("--daily-url", help="the stand-in; without it nobody joins a room")
    options = parser.parse_args()
    app = create_app(options.rest_url, options.daily_url)
    with suppress(KeyboardInterrupt):
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=options.port,
            ws="none",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )


if __name__ == "__main__":
    main()
