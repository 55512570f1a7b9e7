"""The examples of the documentation, as they stand there: a page in a real browser, and a watcher in Python."""

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest

from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from tests import chromium
from tests.chromium import Browser, Window
from tests.clients import Rest, bearer, eventually, http_client, new_stack, servers_in_use

ME = "page-ada"
needs_chromium = pytest.mark.skipif(chromium.BINARY is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """One whose server can be restarted."""
    with new_stack() as running:
        yield running


@pytest.fixture(scope="module")
def own_rest(own: Stack) -> Iterator[Rest]:
    with http_client(own.rest_url) as client:
        yield Rest(own, client)


@pytest.fixture
def room(own_rest: Rest) -> str:
    return str(own_rest.create(ME)["roomName"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browser() as running:
        yield running


def example(file: Path, language: str, has: str) -> str:
    """The block of code of a document that has these words in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", file.read_text(), re.DOTALL)
    [block] = [block for block in blocks if has in block]
    return str(block)


def change(rest: Rest, room: str, limit: int) -> None:
    assert rest.call("PATCH", f"/sessions/{room}", ME, json={"maxParticipants": limit}).status_code == 200


def restart(own: Stack) -> None:
    own.servers[0].stop()
    own.servers[0].start()
    eventually(lambda: servers_in_use(own) == 1, 40)


def end(rest: Rest, room: str) -> None:
    assert rest.call("DELETE", f"/sessions/{room}", ME).status_code == 200


def page_with_the_fetch(own: Stack, repository: Path, browser: Browser) -> Window:
    """It has `follow` of the documentation."""
    page = browser.window()
    page.go(f"{own.rest_url}/")
    page.run(f"{example(repository / 'docs' / 'calling.md', 'js', 'TextDecoderStream')}; 0")
    return page


@needs_chromium
def test_the_page_of_the_readme_shows_a_class_until_its_end_and_over_a_restart(
    own: Stack, own_rest: Rest, repository: Path, browser: Browser, room: str
) -> None:
    page = browser.window()
    script = re.sub(r"<p>.*\n|</?script.*>", "", example(repository / "README.md", "html", "EventSource"))
    script = script.replace("http://localhost:8080", own.rest_url).replace("location.search", f"'?room={room}'")
    page.go(f"{own.rest_url}/")
    page.run("document.body.append(document.createElement('b'))")
    counted = script.replace("after = lastEventId;", "after = lastEventId; told.push(Number(after));")
    page.run(f"(() => {{ window.told = []; {counted} }})()")
    page.reads("b", "scheduled")
    change(own_rest, room, 1)
    eventually(lambda: page.run("told.at(-1)") == 2)
    restart(own)
    change(own_rest, room, 2)
    eventually(lambda: page.run("told.at(-1)") == 3, 40)
    end(own_rest, room)
    page.reads("b", "ended")
    assert sorted(set(page.run("told"))) == [1, 2, 3, 4]
    assert page.complaints == []


@needs_chromium
def test_the_fetch_of_the_documentation_follows_with_a_token_to_the_end_and_over_a_restart(
    own: Stack, own_rest: Rest, repository: Path, browser: Browser, room: str
) -> None:
    page = page_with_the_fetch(own, repository, browser)
    page.run("delete ReadableStream.prototype[Symbol.asyncIterator]")  # which not every browser has
    page.run(
        f"window.told = []; window.ended = null; follow('/sessions/{room}/events', '{own_rest.token(ME)}',"
        " (event) => { if (!event.heartbeat) told.push([event.revision, Object.keys(event)[2]]); })"
        ".then((status) => { ended = status; }); 0"
    )
    eventually(lambda: page.run("told"))
    own_rest.call("POST", f"/sessions/{room}/start-recording", ME)
    eventually(lambda: len(page.run("told")) == 3)
    restart(own)
    own_rest.call("POST", f"/sessions/{room}/participants/eve/remove", ME)
    end(own_rest, room)
    assert eventually(lambda: page.run("ended"), 60) == 204
    told = page.run("told")
    assert [revision for revision, _ in told] == list(range(1, len(told) + 1))
    assert {kind for _, kind in told} == {"session", "recording", "participant"}
    assert page.complaints == []


@needs_chromium
def test_what_a_page_does_wrong_itself_ends_the_fetch_of_the_documentation(
    own: Stack, own_rest: Rest, repository: Path, browser: Browser, room: str
) -> None:
    page = page_with_the_fetch(own, repository, browser)
    page.run(
        f"follow('/sessions/{room}/events', '{own_rest.token(ME)}', () => {{ throw Error('ours') }})"
        ".catch((problem) => { window.thrown = problem.message; }); 0"
    )
    eventually(lambda: page.run("window.thrown") == "ours")


def test_the_watcher_of_the_readme_follows_to_the_end_and_over_a_restart(
    own: Stack, own_rest: Rest, repository: Path, room: str
) -> None:
    names: dict[str, Any] = {}
    exec(example(repository / "README.md", "python", "WatchLiveSession"), names)
    told: list[Any] = []
    with grpc.insecure_channel(own.grpc_proxy) as channel:
        events = names["follow"](LiveSessionsStub(channel), room, bearer(own_rest.token(ME)))
        thread = Thread(target=lambda: told.extend(events), daemon=True)
        thread.start()
        change(own_rest, room, 1)
        restart(own)
        change(own_rest, room, 2)
        end(own_rest, room)
        thread.join(60)
        assert not thread.is_alive()
    revisions = [event.revision for event in told if not event.HasField("heartbeat")]
    assert revisions in ([1, 2, 3, 4], [2, 3, 4])  # the first change may have come before the watcher


def test_the_watcher_of_the_readme_says_what_is_hopeless(own: Stack, repository: Path) -> None:
    names: dict[str, Any] = {}
    exec(example(repository / "README.md", "python", "WatchLiveSession"), names)
    with grpc.insecure_channel(own.grpc_proxy) as channel, pytest.raises(grpc.RpcError) as failed:
        next(names["follow"](LiveSessionsStub(channel), "ls-no-such"))
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND
