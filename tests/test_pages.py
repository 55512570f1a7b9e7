"""The sandbox's pages, from an origin of their own: what their server gives, and both of them used in Chromium."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml

from sandbox.stack import Ports, Stack
from tests import chromium
from tests.chromium import Browser, Window
from tests.clients import eventually, http_client, servers_in_use

needs_chromium = pytest.mark.skipif(chromium.BINARY is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """With the pages, in place of everybody's."""
    with TemporaryDirectory() as data_dir, Stack(Path(data_dir), Ports(pages=0)) as running:
        yield running


@pytest.fixture(scope="module")
def pages(stack: Stack) -> Iterator[httpx.Client]:
    with http_client(str(stack.pages_url)) as client:
        yield client


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A page that threw, or was not allowed what it needs, has failed."""
    with chromium.browser() as running:
        yield running
        assert [complaint for window in running.windows for complaint in window.complaints] == []


# Their server


def test_the_document_is_given_as_json_with_this_stacks_address(
    stack: Stack, pages: httpx.Client, repository: Path
) -> None:
    written = yaml.safe_load((repository / "docs" / "openapi.yaml").read_text())
    assert pages.get("/openapi.json").json() == written | {
        "servers": [{"url": stack.rest_url, "description": "this sandbox"}]
    }


def test_who_signs_in_gets_a_token_that_the_api_takes(stack: Stack, pages: httpx.Client) -> None:
    token = pages.post("/sign-in", json={"id": "pages-ada", "name": "Ada", "role": "instructor"}).json()["token"]
    mine = httpx.get(f"{stack.rest_url}/sessions/course/x", headers={"Authorization": f"Bearer {token}"})
    assert (mine.status_code, mine.json()) == (200, [])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":"a","name":"b"}', b'{"id":1,"name":"b","role":"student"}'])
def test_who_does_not_say_who_they_are_gets_none(pages: httpx.Client, body: bytes) -> None:
    answer = pages.post("/sign-in", content=body)
    assert (answer.status_code, answer.json()) == (400, {"error": "id, name and role are required"})


def test_under_another_name_nothing_is_given(pages: httpx.Client) -> None:
    answer = pages.post("/sign-in", json={}, headers={"Host": "rebound.example"})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_their_origin_may_call_the_api_and_the_call_and_no_other_may(stack: Stack, name: str) -> None:
    urls = [f"{stack.rest_url}/sessions/instructor/nobody", f"{stack.daily_url}/sandbox/calls"]
    for url in urls:
        for origin, allowed in ((f"http://{name}:{stack.ports.pages}", True), ("http://evil.example", False)):
            answer = httpx.get(url, headers={"Origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


# The API page


@needs_chromium
def test_every_operation_can_be_read_and_tried(browser: Browser, stack: Stack) -> None:
    window = browser.window()
    window.go(f"{stack.pages_url}/api.html#GetCourseLiveSessions")
    ids = eventually(
        lambda: window.run("Array.from(document.querySelectorAll('#operations details[id]'), (one) => one.id)")
    )
    document = httpx.get(f"{stack.pages_url}/openapi.json").json()
    operations = [one for item in document["paths"].values() for one in item.values() if "operationId" in one]
    assert sorted(ids) == sorted(one["operationId"] for one in operations)

    names = window.run("Array.from(document.querySelectorAll('#operations form input'), (one) => one.name)")
    headers = {one["name"] for item in operations for one in item.get("parameters", []) if one.get("in") == "header"}
    assert headers & set(names) == {"Idempotency-Key"}  # Envoy lets no page send the others

    window.fill("#GetCourseLiveSessions [name=courseId]", "nobody's course")
    window.click("#GetCourseLiveSessions form button")
    eventually(lambda: window.text("#GetCourseLiveSessions form + pre").startswith("200\n"))
    assert window.text("#GetCourseLiveSessions form + pre").endswith("\n\n[]")


# The classroom


def person(browser: Browser, stack: Stack, name: str, role: str, room: str = "") -> Window:
    window = browser.window()
    window.go(f"{stack.pages_url}/classroom.html" + (f"?room={room}" if room else ""))
    window.fill("#sign-in [name=name]", name)
    window.fill("#sign-in [name=role]", role)
    window.click("#sign-in button")
    return window


def row(user: str, cell: int = 3) -> str:
    return f"#people [data-user={user}] td:nth-child({cell})"


def button(user: str, label: str) -> str:
    return f"#people [data-user={user}] button[name={label}]"


@needs_chromium
def test_a_class_is_held_by_an_instructor_and_students_each_in_a_window(browser: Browser, stack: Stack) -> None:
    ada = person(browser, stack, "Ada", "instructor")
    ada.click("#create button")
    ada.reads("#status", "scheduled")
    ada.click("#join")
    ada.reads("#status", "live")
    ada.reads(row("instructor-ada"), "inside")

    room = ada.text("#room")
    sam, zoe = (person(browser, stack, name, "student", room) for name in ("Sam", "Zoe"))
    for student in (sam, zoe):
        student.reads("#status", "live")
        student.click("#join")
    for user in ("student-sam", "student-zoe"):
        ada.reads(row(user), "inside")
    for window in (sam, zoe):
        for user in ("instructor-ada", "student-sam", "student-zoe"):
            window.reads(row(user, 1), user)
    assert sam.text("#instructor") == ""

    ada.click("#start")
    ada.reads("#recording", "recording")
    ada.click("#mute")
    for user in ("student-sam", "student-zoe"):
        ada.reads(row(user), "inside, muted")
        sam.reads(row(user), "muted")
    ada.click(button("student-sam", "Unmute"))
    ada.reads(row("student-sam"), "inside")
    sam.reads(row("student-sam"), "")

    ada.click(button("student-sam", "Remove"))
    ada.reads(row("student-sam"), "removed")
    sam.reads("#problem", "You are no longer in the room.")
    zoe.reads(row("student-sam", 1), "")
    sam.click("#join")
    sam.reads("#problem", f"Not authorized to join session:{room}")
    ada.click(button("student-sam", "Readmit"))
    ada.reads(row("student-sam"), "left")
    sam.click("#join")
    ada.reads(row("student-sam"), "inside")

    sam.click("#leave")
    ada.reads(row("student-sam"), "left")
    zoe.close()
    ada.reads(row("student-zoe"), "left, muted")

    ada.click("#stop")
    for window in (ada, sam):
        window.reads("#status", "ended")
    ada.reads("#recording", "recording completed")


HOLD_LOOKS = """(() => {
    const real = window.fetch;
    window.looks = 0;
    window.held = new Promise((release) => { window.release = release; });
    window.fetch = async (url, ...given) => {
        const answer = await real(url, ...given);
        if (String(url).includes("/sandbox/state")) { looks++; await held; }
        return answer;
    };
})()"""
LOSE_LOOKS = """(() => {
    const real = window.fetch;
    window.lost = 0;
    window.fetch = (url, ...given) => {
        if (!String(url).includes("/sandbox/state") || lost === 3) return real(url, ...given);
        lost++;
        return Promise.reject(Error("lost"));
    };
})()"""


@needs_chromium
def test_who_is_inside_stays_so_though_the_room_cannot_be_looked_into_or_was_before_they_came(
    browser: Browser, stack: Stack
) -> None:
    ada = person(browser, stack, "Ada", "instructor")
    ada.run(HOLD_LOOKS)
    ada.click("#create button")
    eventually(lambda: ada.run("looks") == 1)  # at an empty room
    ada.click("#join")
    ada.reads("#leave", "Leave")
    ada.run("release()")
    eventually(lambda: ada.run("looks") == 3)
    ada.run(LOSE_LOOKS)
    eventually(lambda: ada.run("lost") == 3)
    eventually(lambda: ada.run("looks") > 3)
    assert (ada.text("#problem"), ada.text("#leave")) == ("", "Leave")


@needs_chromium
def test_a_window_misses_nothing_and_is_told_nothing_twice_while_a_server_goes_and_comes(
    browser: Browser, stack: Stack
) -> None:
    ada = person(browser, stack, "Ada", "instructor")
    ada.click("#create button")
    ada.reads("#status", "scheduled")
    (server,) = stack.servers
    server.stop()
    server.start()
    eventually(lambda: servers_in_use(stack) == 1, 40)
    ada.click("#join")
    ada.reads("#status", "live")
    ada.reads(row("instructor-ada"), "inside")
    told = ada.run("Array.from(document.querySelectorAll('#events li'), (line) => line.innerText.split(' ')[1])")
    assert told == ["#3", "#2", "#1"]
