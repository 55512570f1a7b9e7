"""The stand-in for Daily.co answers as Daily does, and fails as it is told to."""

import json
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from sandbox.daily.delivery import signature
from sandbox.ports import free_port

KEY = "an-api-key-of-the-sandbox-domain-64-characters-long-0123456789ab"
SECRET = "NQrSA5z0FkJ44QPrFerW7uCc5kdNLv3l2FDEKDanL1U="
NO_CALL = {"error": "not-found", "info": "room {} does not seem to be hosting a call currently"}
JSON = dict[str, Any]


# --- the stand-in, and the service that its webhook calls -------------------------------------------------


class Daily:
    """A running stand-in: `api` is Daily's API with the key, `control` the /sandbox surface without."""

    def __init__(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        key = {"Authorization": f"Bearer {KEY}"}
        self.api = httpx.Client(base_url=f"{url}/v1", headers=key, trust_env=False)
        self.control = httpx.Client(base_url=f"{url}/sandbox", trust_env=False)

    def state(self) -> JSON:
        return self.control.get("/state").raise_for_status().json()

    def room(self, **body: Any) -> str:
        return self.api.post("/rooms", json=body).raise_for_status().json()["name"]

    def token(self, **claims: Any) -> str:
        domain_id = self.api.get("/").json()["domain_id"]
        return jwt.encode({"iat": int(time.time()), "d": domain_id, **claims}, KEY, algorithm="HS256")

    def join(self, room: str, **claims: Any) -> httpx.Response:
        return self.control.post(f"/rooms/{room}/join", json={"token": self.token(r=room, **claims)})

    def joined(self, room: str, **claims: Any) -> str:
        return self.join(room, **claims).raise_for_status().json()["session_id"]

    def leave(self, room: str, session_id: str) -> httpx.Response:
        return self.control.post(f"/rooms/{room}/leave", json={"session_id": session_id})

    def record(self, room: str, **body: Any) -> str:
        """Starts a recording and answers its id."""
        self.api.post(f"/rooms/{room}/recordings/start", json=body).raise_for_status()
        return self.api.get("/recordings", params={"room_name": room, "limit": 1}).json()["data"][0]["id"]

    def recording(self, recording_id: str) -> JSON:
        return self.api.get(f"/recordings/{recording_id}").raise_for_status().json()

    def fault(self, method: str, path: str, fault: str, **more: Any) -> None:
        self.control.post("/faults", json={"method": method, "path": path, "fault": fault, **more}).raise_for_status()

    def webhook_fault(self, fault: str, **more: Any) -> None:
        self.control.post("/faults", json={"fault": fault, **more}).raise_for_status()


class Receiver:
    """The service's webhook endpoint: keeps what it gets, answers `status`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.got: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    def events(self, count: int) -> list[JSON]:
        return [json.loads(self.got.get(timeout=5)[1]) for _ in range(count)]


@contextmanager
def running(state: Path) -> Iterator[Daily]:
    with free_port() as port:
        command = [sys.executable, "-m", "sandbox.daily", "--port", str(port)]
        command += ["--api-key", KEY, "--domain", "sandbox", "--state", str(state)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
        daily = Daily(port)
        try:
            eventually(lambda: answers(daily))
            yield daily
        finally:
            process.terminate()
            process.wait(timeout=5)


def answers(daily: Daily) -> bool:
    try:
        return daily.api.get("/").status_code == 200
    except httpx.ConnectError:
        return False


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 5
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.02)
    return result


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daily]:
    with running(tmp_path_factory.mktemp("daily") / "state.json") as daily:
        yield daily


@pytest.fixture
def daily(stand_in: Daily) -> Iterator[Daily]:
    yield stand_in
    stand_in.control.delete("/faults")
    for webhook in stand_in.api.get("/webhooks").json():
        stand_in.api.delete(f"/webhooks/{webhook['uuid']}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.got.put(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks/daily")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield received
    server.shutdown()
    server.server_close()


@pytest.fixture
def hook(daily: Daily, receiver: Receiver) -> Receiver:
    """A receiver that is the domain's webhook; its test ping is already taken."""
    body = {"url": receiver.url, "hmac": SECRET}
    daily.api.post("/webhooks", json=body).raise_for_status()
    receiver.got.get(timeout=5)
    return receiver


def types(events: list[JSON]) -> list[str]:
    return [event["type"] for event in events]


def is_error(response: httpx.Response, status: int, error: str, info: str) -> bool:
    body = response.json()
    assert (response.status_code, body["error"]) == (status, error), body
    assert info in body["info"]
    return True


# --- basics ----------------------------------------------------------------------------------------------


def test_a_missing_key_is_400_and_a_wrong_one_401(daily: Daily) -> None:
    bare = daily.api.get("/rooms", headers={"Authorization": ""})
    assert is_error(bare, 400, "authorization-header-error", "Bearer")
    assert is_error(daily.api.get("/rooms", headers={"Authorization": KEY}), 400, "authorization-header-error", "")
    wrong = daily.api.get("/rooms", headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()) == (401, {"error": "authentication-error"})


def test_the_domain_names_itself(daily: Daily) -> None:
    domain = daily.api.get("/").json()
    assert domain["domain_name"] == "sandbox"
    assert uuid.UUID(domain["domain_id"])
    assert domain["config"] == {}


def test_malformed_json_is_a_parsing_error(daily: Daily) -> None:
    assert is_error(daily.api.post("/rooms", content=b"{"), 400, "json-parsing-error", "JSON")
    assert is_error(daily.api.post("/rooms", json=[]), 400, "invalid-request-error", "object")


# --- rooms -----------------------------------------------------------------------------------------------


def test_a_room_answers_only_its_non_default_properties(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    properties = {"max_participants": 200, "enable_recording": "cloud", "start_video_off": None}
    body = {"name": name, "privacy": "private", "properties": properties}
    room = daily.api.post("/rooms", json=body).json()
    assert uuid.UUID(room.pop("id"))
    assert room.pop("created_at").endswith("Z")
    assert room == {
        "name": name,
        "api_created": True,
        "privacy": "private",
        "url": f"https://sandbox.daily.co/{name}",
        "config": {"enable_recording": "cloud"},
    }


def test_a_second_room_of_the_same_name_is_a_bad_request(daily: Daily) -> None:
    name = daily.room()
    answer = daily.api.post("/rooms", json={"name": name})
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid-request-error", "info": f"a room named {name} already exists"}


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"name": "two words"}, "contains invalid characters"),
        ({"name": "x" * 129}, "at most 128 characters"),
        ({"name": 5}, "name must be"),
        ({"privacy": "secret"}, "privacy must be one of public, private"),
        ({"properties": {"exp": 1}}, "exp is in the past"),
        ({"properties": {"exp": "soon"}}, "exp must be an integer"),
        ({"properties": {"max_participants": True}}, "max_participants must be a positive integer"),
        ({"properties": []}, "properties must be an object"),
    ],
)
def test_a_wrong_room_is_refused_with_a_reason(daily: Daily, body: JSON, info: str) -> None:
    assert is_error(daily.api.post("/rooms", json=body), 400, "invalid-request-error", info)


def test_an_update_changes_and_resets_properties(daily: Daily) -> None:
    name = daily.room(properties={"max_participants": 5, "start_audio_off": True})
    body = {"privacy": "private", "properties": {"max_participants": None, "start_video_off": True}}
    room = daily.api.post(f"/rooms/{name}", json=body).json()
    assert room["privacy"] == "private"
    assert room["config"] == {"start_audio_off": True, "start_video_off": True}


def test_a_missing_room_is_404(daily: Daily) -> None:
    missing = {"error": "not-found", "info": "room nowhere not found"}
    for answer in (daily.api.get("/rooms/nowhere"), daily.api.delete("/rooms/nowhere")):
        assert (answer.status_code, answer.json()) == (404, missing)


def test_an_expired_room_is_404_and_its_delete_says_deleted(daily: Daily) -> None:
    name = daily.room(properties={"exp": int(time.time()) + 1})
    eventually(lambda: daily.api.get(f"/rooms/{name}").status_code == 404)
    answer = daily.api.delete(f"/rooms/{name}")
    assert (answer.status_code, answer.json()["deleted"]) == (404, True)


def test_lists_are_newest_first_with_cursors(daily: Daily) -> None:
    names = [daily.room() for _ in range(4)]
    newest = daily.api.get("/rooms", params={"limit": 4}).json()
    assert [room["name"] for room in newest["data"]] == names[::-1]
    assert newest["total_count"] >= 4
    ids = [room["id"] for room in newest["data"]]

    def page(**query: Any) -> list[str]:
        return [room["id"] for room in daily.api.get("/rooms", params=query).json()["data"]]

    assert page(starting_after=ids[0], limit=2) == ids[1:3]
    assert page(ending_before=ids[3], limit=2) == ids[1:3]
    assert page(starting_after=ids[0], ending_before=ids[3]) == ids[1:3]
    assert is_error(daily.api.get("/rooms", params={"limit": 101}), 400, "invalid-request-error", "limit")
    unknown = daily.api.get("/rooms", params={"starting_after": "x"})
    assert is_error(unknown, 400, "invalid-request-error", "no object with id x")


# --- meeting tokens --------------------------------------------------------------------------------------


def test_a_token_reads_back_under_its_long_names(daily: Daily) -> None:
    exp = int(time.time()) + 60
    permissions = {"hasPresence": True, "canSend": ["video", "audio"], "canAdmin": False}
    properties = {
        "room_name": "r",
        "user_id": "u-1",
        "user_name": "Ada",
        "exp": exp,
        "permissions": permissions,
    }
    token = daily.api.post("/meeting-tokens", json={"properties": properties}).json()["token"]
    claims = jwt.decode(token, KEY, algorithms=["HS256"])
    assert claims["p"] == {"hp": True, "cs": "v,a", "ca": False}
    read = daily.api.get(f"/meeting-tokens/{token}").json()
    assert read == properties | {"domain_id": daily.api.get("/").json()["domain_id"]}


def test_a_self_signed_token_is_as_good_as_one_of_the_api(daily: Daily) -> None:
    token = daily.token(r="hello", o=True, ud="ins-1", p={"cs": "sv,sa", "ca": "p"})
    read = daily.api.get(f"/meeting-tokens/{token}").json()
    assert (read["room_name"], read["is_owner"], read["user_id"]) == ("hello", True, "ins-1")
    assert read["permissions"] == {"canSend": ["screenVideo", "screenAudio"], "canAdmin": ["participants"]}


def test_a_token_without_a_room_opens_every_room(daily: Daily) -> None:
    token = daily.api.post("/meeting-tokens", json={"properties": {"user_id": "u-1"}}).json()["token"]
    for room in (daily.room(), daily.room()):
        daily.control.post(f"/rooms/{room}/join", json={"token": token}).raise_for_status()


@pytest.mark.parametrize(
    ("claims", "info"),
    [
        ({"exp": 1}, "expired"),
        ({"nbf": 4102444800}, "not yet valid"),
        ({"d": str(uuid.uuid4())}, "another domain"),
        ({"ud": "x" * 37}, "user_id must be a string of at most 36"),
        ({"p": {"cs": ["video"]}}, "p.cs must be a boolean or a comma string"),
        ({"o": "yes"}, "is_owner must be a boolean"),
    ],
)
def test_a_bad_token_is_400_and_opens_nothing(daily: Daily, claims: JSON, info: str) -> None:
    room = daily.room()
    token = daily.token(**({"r": room} | claims))
    assert is_error(daily.api.get(f"/meeting-tokens/{token}"), 400, "invalid-request-error", info)
    joined = daily.control.post(f"/rooms/{room}/join", json={"token": token})
    assert is_error(joined, 400, "invalid-request-error", info)


@pytest.mark.parametrize("missing", ["r", "iat", "d"])
def test_a_self_signed_token_needs_each_required_claim(daily: Daily, missing: str) -> None:
    claims = {"r": "a", "iat": 1, "d": daily.api.get("/").json()["domain_id"]}
    del claims[missing]
    answer = daily.api.get(f"/meeting-tokens/{jwt.encode(claims, KEY, algorithm='HS256')}")
    assert is_error(answer, 400, "invalid-request-error", f'missing the "{missing}" claim')


def test_a_token_that_is_not_valid_yet_can_still_be_read(daily: Daily) -> None:
    token = daily.token(r="a", nbf=4102444800)
    assert daily.api.get(f"/meeting-tokens/{token}", params={"ignoreNbf": "true"}).status_code == 200


# --- calls -----------------------------------------------------------------------------------------------


def test_joining_is_refused_by_room_size_and_name(daily: Daily) -> None:
    room, other = daily.room(properties={"max_participants": 1}), daily.room()
    daily.joined(room, ud="u-1")
    assert is_error(daily.join(room, ud="u-2"), 403, "forbidden-error", "is full")
    wrong = daily.control.post(f"/rooms/{other}/join", json={"token": daily.token(r=room)})
    assert is_error(wrong, 403, "forbidden-error", "not for room")
    assert is_error(daily.join("nowhere"), 404, "not-found", "room nowhere not found")
    assert is_error(daily.control.post(f"/rooms/{other}/join"), 400, "invalid-request-error", "token is required")


def test_a_meeting_lists_every_connection_with_exact_times(daily: Daily) -> None:
    room = daily.room()
    first, second = daily.joined(room, ud="u-1", u="Ada"), daily.joined(room, ud="u-1", u="Ada")
    query = {"room": room, "ongoing": "true"}
    assert daily.api.get("/meetings", params=query).json()["data"][0]["ongoing"] is True
    left = [daily.leave(room, session).json() for session in (first, second)]
    assert daily.leave(room, second).status_code == 404
    (meeting,) = daily.api.get("/meetings", params={"room": room}).json()["data"]
    assert (meeting["ongoing"], meeting["max_participants"]) == (False, 2)
    seen = {p["participant_id"]: round(p["join_time"] + p["duration"], 3) for p in meeting["participants"]}
    assert seen == {stay["session_id"]: stay["left_at"] for stay in left}
    start = meeting["start_time"]
    assert daily.api.get("/meetings", params={"timeframe_start": start, "timeframe_end": start}).json()["data"]
    assert not daily.api.get("/meetings", params={"room": room, "timeframe_end": start - 1}).json()["data"]


def test_ejected_users_may_come_back_unless_banned_from_the_running_call(daily: Daily) -> None:
    room = daily.room()
    daily.joined(room, ud="host")
    first = daily.joined(room, ud="u-1")
    assert daily.api.post(f"/rooms/{room}/eject", json={"ids": [first]}).json() == {"ejectedIds": [first]}
    second = daily.joined(room, ud="u-1")
    body = {"user_ids": ["u-1"], "ban": True}
    assert daily.api.post(f"/rooms/{room}/eject", json=body).json() == {"ejectedIds": [second]}
    assert is_error(daily.join(room, ud="u-1"), 403, "forbidden-error", "banned")
    presence = daily.api.get(f"/rooms/{room}/presence").json()
    assert [p["userId"] for p in presence["data"]] == ["host"]
    assert set(presence["data"][0]) == {"room", "id", "userId", "userName", "joinTime", "duration"}


def test_permissions_are_updated_by_session_id(daily: Daily) -> None:
    room = daily.room()
    one, other = daily.joined(room, ud="u-1", p={"cs": "v"}), daily.joined(room, ud="u-2")
    body = {"data": {one: {"canSend": False}}}
    daily.api.post(f"/rooms/{room}/update-permissions", json=body).raise_for_status()
    connections = {c["session_id"]: c["permissions"]["canSend"] for c in daily.state()["connections"]}
    assert (connections[one], connections[other]) == (False, True)


def test_a_token_may_end_its_own_stay(daily: Daily) -> None:
    room = daily.room()
    session = daily.joined(room, exp=int(time.time()) + 2, ejt=True)

    def left() -> Any:
        return next(c["left_at"] for c in daily.state()["connections"] if c["session_id"] == session)

    assert eventually(left)


# --- recordings ------------------------------------------------------------------------------------------


def test_a_recording_lives_from_start_to_file(daily: Daily) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    started = daily.api.post(f"/rooms/{room}/recordings/start", json={"instanceId": instance, "maxDuration": 600})
    assert started.json() == {"status": "sent"}
    (recording,) = daily.api.get("/recordings", params={"room_name": room}).json()["data"]
    assert recording["status"] == "in-progress"
    assert "duration" not in recording
    daily.api.post(f"/rooms/{room}/recordings/stop", json={"instanceId": instance}).raise_for_status()
    assert daily.recording(recording["id"])["status"] == "in-progress"
    link = daily.api.get(f"/recordings/{recording['id']}/access-link").json()
    assert httpx.get(link["download_link"], trust_env=False).status_code == 404
    eventually(lambda: daily.recording(recording["id"])["status"] == "finished")
    finished = daily.recording(recording["id"])
    assert finished["duration"] == 1
    assert finished["s3key"].startswith(f"sandbox/{room}/")
    assert link["expires"] > time.time()
    assert httpx.get(link["download_link"], trust_env=False).content[4:8] == b"ftyp"
    deleted = daily.api.delete(f"/recordings/{recording['id']}")
    assert deleted.json() == {"deleted": True, "id": recording["id"]}
    assert daily.api.get(f"/recordings/{recording['id']}").status_code == 404


def test_the_same_instance_cannot_record_twice_and_another_can(daily: Daily) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    default, own = daily.record(room), daily.record(room, instanceId=instance)
    for body in ({}, {"instanceId": instance}):
        again = daily.api.post(f"/rooms/{room}/recordings/start", json=body)
        assert is_error(again, 400, "invalid-request-error", "has an active stream")
    daily.api.post(f"/rooms/{room}/recordings/stop").raise_for_status()
    assert is_error(daily.api.post(f"/rooms/{room}/recordings/stop"), 400, "invalid-request-error", "")
    eventually(lambda: daily.recording(default)["status"] == "finished")
    assert daily.recording(own)["status"] == "in-progress"


def test_a_recording_ends_by_itself_at_its_longest(daily: Daily) -> None:
    recording = daily.record(daily.room(), maxDuration=1)
    eventually(lambda: daily.recording(recording)["status"] == "finished")
    ended = next(r for r in daily.state()["recordings"] if r["id"] == recording)
    assert ended["end_ts"] - ended["start_ts"] == pytest.approx(1)


def test_a_recording_ends_when_the_call_has_been_empty_for_long(daily: Daily) -> None:
    room = daily.room()
    session = daily.joined(room)
    recording = daily.record(room, minIdleTimeOut=0.1)
    daily.leave(room, session).raise_for_status()
    eventually(lambda: daily.recording(recording)["status"] == "finished")


def test_deleting_a_room_ends_its_call_and_its_recording(daily: Daily) -> None:
    room = daily.room()
    daily.joined(room)
    recording = daily.record(room)
    assert daily.api.delete(f"/rooms/{room}").json() == {"deleted": True, "name": room}
    assert daily.api.get("/meetings", params={"room": room, "ongoing": "true"}).json()["total_count"] == 0
    eventually(lambda: daily.recording(recording)["status"] == "finished")


def test_a_recording_can_be_made_to_fail_or_to_end(daily: Daily) -> None:
    failing, ending = daily.record(daily.room()), daily.record(daily.room())
    daily.control.post(f"/recordings/{failing}/fail", json={"error_msg": "disk"}).raise_for_status()
    assert daily.recording(failing)["status"] == "canceled"
    daily.control.post(f"/recordings/{ending}/end").raise_for_status()
    eventually(lambda: daily.recording(ending)["status"] == "finished")
    assert daily.control.post(f"/recordings/{ending}/end").status_code == 400
    assert daily.control.post("/recordings/none/fail").status_code == 404


# --- faults ----------------------------------------------------------------------------------------------


def test_a_status_fault_acts_as_often_as_told_and_has_no_effect(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("POST", "/rooms", "status", status=503, times=2)
    for _ in range(2):
        answer = daily.api.post("/rooms", json={"name": name})
        assert is_error(answer, 503, "server-error", "")
    assert daily.api.get(f"/rooms/{name}").status_code == 404
    assert daily.api.post("/rooms", json={"name": name}).status_code == 200


@pytest.mark.parametrize("path", ["/rooms/*", "/rooms/:name", "/rooms/one"])
def test_a_fault_path_matches_any_one_segment(daily: Daily, path: str) -> None:
    daily.fault("GET", path, "rate_limit", times=None)
    assert is_error(daily.api.get("/rooms/one"), 429, "rate-limit-error", "")
    assert daily.api.get("/rooms").status_code == 200
    assert daily.api.get("/rooms/one/presence").status_code == 404
    assert daily.api.delete("/rooms/one").status_code == 404


def test_faults_are_listed_and_cleared(daily: Daily) -> None:
    daily.fault("GET", "/", "status", status=500, times=None)
    daily.fault("GET", "/", "rate_limit")
    assert [f["fault"] for f in daily.control.get("/faults").json()["faults"]] == ["status", "rate_limit"]
    assert daily.api.get("/").status_code == 500
    daily.control.delete("/faults")
    assert daily.api.get("/").status_code == 200


def test_nobody_in_call_refuses_a_recording_as_daily_does(daily: Daily) -> None:
    room = daily.room()
    daily.fault("POST", "/rooms/*/recordings/start", "nobody_in_call")
    answer = daily.api.post(f"/rooms/{room}/recordings/start")
    assert answer.status_code == 404
    assert answer.json() == NO_CALL | {"info": NO_CALL["info"].format(room)}
    assert daily.record(room)


def test_a_delayed_call_takes_effect_though_the_client_has_gone(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("POST", "/rooms", "delay", seconds=0.4)
    with pytest.raises(httpx.ReadTimeout):
        daily.api.post("/rooms", json={"name": name}, timeout=0.1)
    assert daily.api.get(f"/rooms/{name}").status_code == 404
    eventually(lambda: daily.api.get(f"/rooms/{name}").status_code == 200)


def test_a_hanging_call_never_answers_and_has_no_effect(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("POST", "/rooms", "hang")
    with pytest.raises(httpx.ReadTimeout):
        daily.api.post("/rooms", json={"name": name}, timeout=0.2)
    assert daily.api.get(f"/rooms/{name}").status_code == 404


def test_clearing_the_faults_releases_a_hanging_call(daily: Daily) -> None:
    daily.fault("GET", "/meetings", "hang")
    before = daily.state()["calls"].get("GET /meetings", 0)

    def clear() -> None:
        eventually(lambda: daily.state()["calls"].get("GET /meetings", 0) > before)
        daily.control.delete("/faults")

    threading.Thread(target=clear).start()
    with pytest.raises(httpx.RemoteProtocolError):
        daily.api.get("/meetings")


def test_a_lost_answer_has_its_effect_and_drops_the_connection(daily: Daily) -> None:
    name = f"room-{uuid.uuid4()}"
    daily.fault("POST", "/rooms", "lost_answer")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        daily.api.post("/rooms", json={"name": name})
    assert daily.api.get(f"/rooms/{name}").status_code == 200


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"fault": "earthquake"}, "fault must be one of"),
        ({"method": "GET", "path": "/"}, "fault is required"),
        ({"fault": "hang", "path": "/"}, "method is required"),
        ({"fault": "status", "method": "GET", "path": "/"}, "status is required"),
        ({"fault": "delay", "method": "GET", "path": "/", "seconds": "1"}, "seconds must be"),
        ({"fault": "hang", "method": "GET", "path": "/", "times": 0}, "times must be"),
        ({"fault": "webhook_drop", "event": "x"}, "unknown field event"),
        ({"fault": "webhook_drop", "type": "x"}, "type must be one of"),
    ],
)
def test_a_malformed_fault_is_refused_with_a_reason(daily: Daily, body: JSON, info: str) -> None:
    assert is_error(daily.control.post("/faults", json=body), 400, "invalid-request-error", info)


def test_calls_are_counted_by_method_and_path_template(daily: Daily) -> None:
    before = daily.state()["calls"].get("POST /rooms/:name/recordings/stop", 0)
    for room in ("one", "two"):
        daily.api.post(f"/rooms/{room}/recordings/stop")
    assert daily.state()["calls"]["POST /rooms/:name/recordings/stop"] == before + 2


# --- webhooks --------------------------------------------------------------------------------------------


def test_the_signature_is_the_documented_one() -> None:
    body = (
        b'{"version":"1.0.0","type":"meeting.started",'
        b'"id":"met-sta-f2aa1ade-ff80-464c-b46e-50ffa577d48d-1708526032",'
        b'"payload":{"start_ts":1708526032.672,"meeting_id":"f2aa1ade-ff80-464c-b46e-50ffa577d48d",'
        b'"room":"TrPmUX1DzjSwDaAFDfNj"},"event_ts":1708526033.049}'
    )
    assert signature(SECRET, "1708526033", body) == "h5z+DQ84rH6/thgIpYgy+cu/hBMiHqSj//JJQz0Pj4c="


def test_a_webhook_is_created_after_a_test_ping_and_only_once(daily: Daily, receiver: Receiver) -> None:
    webhook = daily.api.post("/webhooks", json={"url": receiver.url}).json()
    assert receiver.got.get(timeout=5)[1] == b'{"test":"test"}'
    assert (webhook["state"], webhook["failedCount"], webhook["retryType"]) == (
        "ACTIVE",
        0,
        "circuit-breaker",
    )
    assert set(webhook) - {"state", "failedCount", "retryType"} == {
        *("uuid", "url", "hmac", "lastMomentPushed", "domainId", "createdAt", "updatedAt", "eventTypes")
    }
    assert daily.api.get("/webhooks").json() == [webhook]
    assert daily.api.get(f"/webhooks/{webhook['uuid']}").json() == webhook
    second = daily.api.post("/webhooks", json={"url": receiver.url})
    assert is_error(second, 400, "invalid-request-error", "already has a webhook")
    assert daily.api.delete(f"/webhooks/{webhook['uuid']}").status_code == 200
    assert daily.api.get(f"/webhooks/{webhook['uuid']}").status_code == 404


def test_a_webhook_that_does_not_answer_200_is_refused(daily: Daily, receiver: Receiver) -> None:
    receiver.status = 401
    for url in (receiver.url, "http://127.0.0.1:1/nothing"):
        answer = daily.api.post("/webhooks", json={"url": url})
        assert is_error(answer, 400, "invalid-request-error", "non-200")
    assert daily.api.get("/webhooks").json() == []
    assert is_error(daily.api.post("/webhooks", json={}), 400, "invalid-request-error", "url is required")


def test_events_are_signed_and_in_order(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    daily.leave(room, daily.joined(room)).raise_for_status()
    events = []
    for _ in range(4):
        headers, body = hook.got.get(timeout=5)
        assert headers["x-webhook-signature"] == signature(SECRET, headers["x-webhook-timestamp"], body)
        events.append(json.loads(body))
    assert types(events) == ["meeting.started", "participant.joined", "participant.left", "meeting.ended"]
    assert all(set(event) == {"version", "type", "id", "payload", "event_ts"} for event in events)
    assert {event["payload"]["room"] for event in events} == {room}
    sent = [{"type": event["type"], "id": event["id"], "status": 200, "room": room} for event in events]
    eventually(lambda: daily.state()["deliveries"][-4:] == sent)


def test_participant_events_carry_who_and_when(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    joined = daily.join(room, ud="u-1", u="Ada", o=True).json()
    left = daily.leave(room, joined["session_id"]).json()
    events = hook.events(4)
    payload = events[1]["payload"]
    assert payload == {
        "room": room,
        "session_id": joined["session_id"],
        "user_id": "u-1",
        "user_name": "Ada",
        "joined_at": joined["joined_at"],
        "will_eject_at": None,
        "owner": True,
        "permissions": {"hasPresence": True, "canSend": True, "canAdmin": True},
    }
    duration = round(left["left_at"] - left["joined_at"], 3)
    assert events[2]["payload"] == payload | {"duration": duration}
    assert set(events[0]["payload"]) == {"start_ts", "meeting_id", "room"}
    assert set(events[3]["payload"]) == {"start_ts", "end_ts", "meeting_id", "room"}


def test_recording_events_have_daily_s_fields_and_lack_the_others(daily: Daily, hook: Receiver) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    recording = daily.record(room, instanceId=instance)
    (started,) = hook.events(1)
    assert started["payload"]["instance_id"] == instance
    assert started["payload"]["recording_id"] == recording
    assert set(started["payload"]) == {
        *("action", "recording_id", "layout", "started_by", "instance_id", "start_ts"),
    }
    daily.api.post(f"/rooms/{room}/recordings/stop", json={"instanceId": instance}).raise_for_status()
    (ready,) = hook.events(1)
    assert ready["type"] == "recording.ready-to-download"
    assert set(ready["payload"]) == {
        *("recording_id", "room_name", "start_ts", "status", "max_participants", "duration", "s3_key"),
    }
    assert daily.recording(recording)["status"] == "finished"


def test_a_failed_recording_is_told_by_its_instance(daily: Daily, hook: Receiver) -> None:
    room, instance = daily.room(), str(uuid.uuid4())
    recording = daily.record(room, instanceId=instance)
    daily.control.post(f"/recordings/{recording}/fail", json={"error_msg": "disk"}).raise_for_status()
    error = hook.events(2)[1]
    assert error["type"] == "recording.error"
    assert set(error["payload"]) == {"action", "error_msg", "instance_id", "room_name", "timestamp"}
    assert (error["payload"]["instance_id"], error["payload"]["error_msg"]) == (instance, "disk")


def test_only_the_chosen_event_types_are_delivered(daily: Daily, receiver: Receiver) -> None:
    body = {"url": receiver.url, "eventTypes": ["participant.left"]}
    daily.api.post("/webhooks", json=body).raise_for_status()
    receiver.got.get(timeout=5)
    room = daily.room()
    daily.leave(room, daily.joined(room)).raise_for_status()
    assert types(receiver.events(1)) == ["participant.left"]


def test_three_failures_break_the_circuit_until_the_webhook_is_updated(daily: Daily, hook: Receiver) -> None:
    uuid_ = daily.state()["webhook"]["uuid"]
    room = daily.room()
    hook.status = 500
    sessions = [daily.joined(room) for _ in range(4)]  # five events, with meeting.started
    hook.events(3)
    failed = eventually(lambda: (w := daily.state()["webhook"])["state"] == "FAILED" and w)
    assert failed["failedCount"] == 3
    eventually(lambda: [d["status"] for d in daily.state()["deliveries"]][-2:] == ["not sent"] * 2)
    assert is_error(daily.api.post(f"/webhooks/{uuid_}"), 400, "invalid-request-error", "non-200")
    hook.status = 200
    webhook = daily.api.post(f"/webhooks/{uuid_}").json()
    assert (webhook["state"], webhook["failedCount"]) == ("ACTIVE", 0)
    for _ in range(2):
        assert hook.got.get(timeout=5)[1] == b'{"test":"test"}'
    daily.leave(room, sessions[0]).raise_for_status()
    assert types(hook.events(1)) == ["participant.left"]


def test_a_success_between_failures_keeps_the_circuit_closed(daily: Daily, hook: Receiver) -> None:
    room = daily.room()
    for status in (500, 500, 200, 500):
        hook.status = status
        deliveries = len(daily.state()["deliveries"])
        daily.record(room, instanceId=str(uuid.uuid4()))
        eventually(lambda before=deliveries: len(daily.state()["deliveries"]) > before)
    webhook = daily.state()["webhook"]
    assert (webhook["state"], webhook["failedCount"]) == ("ACTIVE", 1)


def test_an_event_can_be_dropped(daily: Daily, hook: Receiver) -> None:
    daily.webhook_fault("webhook_drop", type="participant.joined")
    room = daily.room()
    daily.leave(room, daily.joined(room)).raise_for_status()
    assert types(hook.events(3)) == ["meeting.started", "participant.left", "meeting.ended"]


def test_an_event_can_be_sent_twice_under_another_id(daily: Daily, hook: Receiver) -> None:
    daily.webhook_fault("webhook_duplicate", type="participant.joined")
    daily.joined(daily.room())
    _, first, second = hook.events(3)
    assert first["payload"] == second["payload"]
    assert first["id"] != second["id"]


def test_an_event_can_be_overtaken_by_the_next(daily: Daily, hook: Receiver) -> None:
    daily.webhook_fault("webhook_reorder", type="participant.joined")
    room = daily.room()
    daily.leave(room, daily.joined(room)).raise_for_status()
    expected = ["meeting.started", "participant.left", "participant.joined", "meeting.ended"]
    assert types(hook.events(4)) == expected


def test_reordering_until_cleared_swaps_events_in_pairs(daily: Daily, hook: Receiver) -> None:
    daily.webhook_fault("webhook_reorder", times=None)
    room = daily.room()
    daily.leave(room, daily.joined(room)).raise_for_status()
    expected = ["participant.joined", "meeting.started", "meeting.ended", "participant.left"]
    assert types(hook.events(4)) == expected


def test_an_event_held_back_is_sent_though_none_follows(daily: Daily, hook: Receiver) -> None:
    daily.webhook_fault("webhook_reorder")
    daily.record(daily.room())
    assert types(hook.events(1)) == ["recording.started"]


# --- persistence -----------------------------------------------------------------------------------------


def test_a_restart_keeps_everything(tmp_path: Path, receiver: Receiver) -> None:
    with running(tmp_path / "new" / "state.json") as daily:
        room = daily.room(properties={"max_participants": 5})
        session = daily.joined(room, ud="u-1")
        recording = daily.record(room)
        daily.api.post("/webhooks", json={"url": receiver.url}).raise_for_status()
        domain, before = daily.api.get("/").json(), daily.state()
    receiver.got.get(timeout=5)
    with running(tmp_path / "new" / "state.json") as daily:
        after = daily.state()
        assert daily.api.get("/").json() == domain
        for part in ("rooms", "recordings", "connections", "webhook"):
            assert after[part] == before[part]
        daily.leave(room, session).raise_for_status()
        daily.api.post(f"/rooms/{room}/recordings/stop").raise_for_status()
        events = receiver.events(3)
        assert types(events) == ["participant.left", "meeting.ended", "recording.ready-to-download"]
        assert events[2]["payload"]["recording_id"] == recording


def test_what_changed_is_on_disk_within_a_second_or_so(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with running(state) as daily:
        room = daily.room()
        eventually(lambda: state.exists() and room in state.read_text())
