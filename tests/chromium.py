"""A real browser for tests: Chromium without a screen, driven by its DevTools protocol."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.clients import eventually

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OPTIONS = ["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-proxy-server", "--disable-gpu"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]


class Window:
    """One tab. Elements are named by CSS selectors; clicks are those of a mouse, at what can be seen."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self.complaints: list[str] = []
        """Uncaught exceptions, and what the page's origin was not allowed."""
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (said := json.loads(self._connection.recv(timeout=30))).get("id") != number:
            self._hear(said)
        assert "error" not in said, said["error"]
        return dict(said["result"])

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self.send("Runtime.evaluate", **given)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def go(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        eventually(lambda: self.run(f"document.readyState === 'complete' && location.href === {json.dumps(url)}"))

    def text(self, selector: str) -> str:
        """What is to be read there: nothing where there is none, or it is hidden."""
        return str(self.run(_text(selector)))

    def reads(self, selector: str, text: str) -> None:
        """Waits until it reads so."""
        try:
            eventually(lambda: self.run(f"{_text(selector)} === {json.dumps(text)}"))
        except AssertionError:
            raise AssertionError(f"{selector} reads {self.text(selector)!r}, not {text!r}") from None

    def fill(self, selector: str, value: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}")

    def click(self, selector: str) -> None:
        """Waits until it can be clicked."""
        script = f"""(() => {{
            const target = document.querySelector({json.dumps(selector)});
            target?.scrollIntoView({{ block: "center" }});
            const {{ x, y, width, height }} = target?.getBoundingClientRect() ?? {{}};
            const spot = [x + width / 2, y + height / 2];
            return width && !target.disabled && target.contains(document.elementFromPoint(...spot)) ? spot : null;
        }})()"""
        x, y = eventually(lambda: self.run(script))
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def close(self) -> None:
        """As a person closes it: the page is told."""
        self.send("Page.close")

    def _hear(self, said: dict[str, Any]) -> None:
        if said["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
        if said["method"] == "Log.entryAdded" and "CORS" in said["params"]["entry"]["text"]:
            self.complaints.append(said["params"]["entry"]["text"])


def _text(selector: str) -> str:
    found = f"document.querySelector({json.dumps(selector)})"
    return f"({found}?.checkVisibility() ? {found}.innerText : '')"


class Browser:
    def __init__(self, url: str, connections: ExitStack) -> None:
        self._url = url
        self._connections = connections
        self.windows: list[Window] = []

    def window(self) -> Window:
        target = httpx.put(f"{self._url}/json/new?about:blank", trust_env=False).json()
        connection = connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None)
        self.windows.append(Window(self._connections.enter_context(connection)))
        return self.windows[-1]


@contextmanager
def browser() -> Iterator[Browser]:
    assert BINARY is not None
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [BINARY, *OPTIONS, *QUIET, *as_root, f"--user-data-dir={profile}", "about:blank"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            file = Path(profile) / "DevToolsActivePort"
            port = eventually(lambda: file.read_text().split()[:1] if file.exists() else None, 30)[0]
            with ExitStack() as connections:
                yield Browser(f"http://127.0.0.1:{port}", connections)
        finally:
            running.terminate()
            running.wait(20)
