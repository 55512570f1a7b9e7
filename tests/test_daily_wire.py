"""Daily's wire: what is sent, and how answers are read, whatever is odd in them."""

import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest

from sandbox.ports import HOST, free_port
from server import deadline
from server.daily import model
from server.daily.client import Daily, Start
from server.daily.errors import DailyRefused, DailyUnavailable, DailyUnreadable
from server.daily.model import DEFAULT_INSTANCE, MeetingRecord, Present, RecordingAtDaily, Stay
from server.daily.wire import Unreadable, time_of
from server.errors import Unavailable
from storage.model import Role
from tests.clients import DailyControl, http_client
from tests.parts import API_KEY, Parts
from tests.wire import KEY, Wire, client

AT = 1766761200
NOON = datetime(2025, 12, 26, 15, tzinfo=UTC)
"""The same moment."""
RECORDING = {"id": "rec-1", "room_name": "algebra", "start_ts": AT, "status": "finished", "duration": 60, "s3key": "k"}
STAY = {"participant_id": "con-1", "user_id": "sam", "user_name": "Sam", "join_time": AT, "duration": 30}
MEETING = {
    "id": "met-1",
    "room": "algebra",
    "start_time": AT,
    "duration": 90,
    "ongoing": False,
    "max_participants": 1,
    "participants": [STAY],
}
PRESENT = {"room": "algebra", "id": "con-1", "userId": "sam", "userName": "Sam", "joinTime": "2025-12-26T15:00:00.000Z"}
START = "POST /rooms/algebra/recordings/start"
STOP = "POST /rooms/algebra/recordings/stop"
INSTANCE = UUID(int=7)


@pytest.fixture(autouse=True)
def _nothing_spent(parts: Parts) -> None:
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE daily_budgets, daily_domains")


@pytest.fixture
async def daily(parts: Parts, at_daily: Wire) -> AsyncIterator[Daily]:
    async with client(at_daily.url, parts.database_url) as daily:
        yield daily


def without(item: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != field}


# Times


@pytest.mark.parametrize(
    "told",
    [
        AT,
        float(AT),
        str(AT),
        f"{AT}.0",
        AT * 1000,
        str(AT * 1000),
        "2025-12-26T15:00:00.000Z",
        "2025-12-26T16:00+01:00",
    ],
)
def test_a_time_is_read_in_whatever_form_daily_writes_it(told: object) -> None:
    assert time_of(told) == NOON


def test_a_time_is_cut_to_milliseconds() -> None:
    assert time_of(AT + 0.1234) == NOON + timedelta(milliseconds=123)
    assert time_of("2025-12-26T15:00:00.123456Z") == NOON + timedelta(milliseconds=123)


@pytest.mark.parametrize("told", [None, "", "yesterday", True, [], {}, float("nan"), "inf", -1, 1e300, 10**400, "1e30"])
def test_what_is_no_time_is_unreadable(told: object) -> None:
    with pytest.raises(Unreadable):
        time_of(told)


# Odd records


async def left_out(daily: Daily, at_daily: Wire, call: str, items: list[object], caplog: Any) -> list[Any]:
    """What is read of a list, and that each item that is missing has its one line in the log."""
    at_daily.answers(call, {"total_count": len(items), "data": items})
    caplog.clear()
    with caplog.at_level(logging.WARNING, "server.daily"):
        looks: dict[str, Any] = {
            "GET /recordings": lambda: daily.recordings("algebra"),
            "GET /rooms/algebra/presence": lambda: daily.presence("algebra"),
        }
        read = await looks[call]() if call in looks else (await daily.meetings())[0]
    assert len(caplog.messages) == len(items) - len(read)
    return list(read)


ODD_RECORDINGS = [
    RECORDING | {"start_ts": None},
    without(RECORDING, "start_ts"),
    RECORDING | {"start_ts": "soon"},
    without(RECORDING, "id"),
    RECORDING | {"id": None},
    RECORDING | {"id": "rec\0"},
    RECORDING | {"id": "rec\ud800"},
    RECORDING | {"id": "r" * 3000},
    None,
    "rec-1",
]


@pytest.mark.parametrize("odd", ODD_RECORDINGS)
async def test_an_odd_recording_is_left_out_of_the_list_and_the_others_are_read(
    daily: Daily, at_daily: Wire, odd: object, caplog: pytest.LogCaptureFixture
) -> None:
    items = [RECORDING, odd, RECORDING | {"id": "rec-2"}]
    read = await left_out(daily, at_daily, "GET /recordings", items, caplog)
    assert [one.id for one in read] == ["rec-1", "rec-2"]


@pytest.mark.parametrize("odd", ODD_RECORDINGS)
async def test_one_recording_that_cannot_be_read_is_no_outage(daily: Daily, at_daily: Wire, odd: object) -> None:
    at_daily.answers("GET /recordings/rec-1", odd)
    with pytest.raises(DailyUnreadable) as failure:
        await daily.recording("rec-1")
    assert not isinstance(failure.value, Unavailable)
    assert at_daily.calls == ["GET /recordings/rec-1"]


def test_a_recording_needs_no_more_than_its_id_and_its_start() -> None:
    assert model.recording({"id": "rec-1", "start_ts": f"{AT}", "duration": "x"}) == RecordingAtDaily(
        id="rec-1", room_name="", status="in-progress", started_at=NOON, duration=None, s3_key=None
    )


def test_a_recording_ended_when_its_duration_was_over() -> None:
    assert model.recording(RECORDING).ended_at == NOON + timedelta(seconds=60)
    assert model.recording(without(RECORDING, "duration")).ended_at is None


@pytest.mark.parametrize(
    "odd",
    [
        STAY | {"join_time": None},
        without(STAY, "join_time"),
        without(STAY, "participant_id"),
        STAY | {"user_id": "s\0m"},
        STAY | {"user_id": ["sam"]},
        None,
    ],
)
async def test_an_odd_stay_is_left_out_of_its_meeting(
    daily: Daily, at_daily: Wire, odd: object, caplog: pytest.LogCaptureFixture
) -> None:
    at_daily.answers("GET /meetings/met-1", MEETING | {"participants": [odd, STAY]})
    record = await daily.meeting("met-1")
    assert record is not None
    assert [stay.connection_id for stay in record.stays] == ["con-1"]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "odd",
    [
        MEETING | {"start_time": None},
        without(MEETING, "room"),
        without(MEETING, "id"),
        MEETING | {"room": "alg\0ebra"},
        without(MEETING, "duration"),
    ],
)
async def test_an_odd_meeting_is_left_out_of_the_page(
    daily: Daily, at_daily: Wire, odd: object, caplog: pytest.LogCaptureFixture
) -> None:
    items = [odd, MEETING | {"id": "met-2"}]
    assert [one.id for one in await left_out(daily, at_daily, "GET /meetings", items, caplog)] == ["met-2"]


def test_a_meeting_says_who_was_there_and_when() -> None:
    stay = Stay("con-1", "sam", "Sam", NOON, NOON + timedelta(seconds=30))
    assert model.meeting(MEETING) == MeetingRecord("met-1", "algebra", NOON, NOON + timedelta(seconds=90), (stay,))


def test_a_stay_of_which_daily_knows_no_end_ended_with_its_meeting() -> None:
    record = model.meeting(MEETING | {"participants": [without(STAY, "duration")]})
    assert record.stays[0].left_at == record.ended_at == NOON + timedelta(seconds=90)


def test_while_a_meeting_goes_on_nobody_is_known_to_have_left() -> None:
    record = model.meeting(MEETING | {"ongoing": True})
    assert (record.ended_at, record.stays[0].left_at) == (None, None)


@pytest.mark.parametrize("unnamed", [None, "", "hipaa"])
def test_a_user_whom_daily_does_not_name_is_known_by_the_connection(unnamed: str | None) -> None:
    assert model.meeting(MEETING | {"participants": [STAY | {"user_id": unnamed}]}).stays[0].user_id == "con-1"
    assert model.present(PRESENT | {"userId": unnamed}).user_id == "con-1"


def test_what_cannot_be_stored_is_removed_from_names_and_long_ones_are_cut() -> None:
    assert model.present(PRESENT | {"userName": "S\0am\ud800"}).user_name == "Sam"
    assert model.present(PRESENT | {"userName": "S" * 5000}).user_name == "S" * 1000


async def test_who_is_inside_is_told_even_without_the_time_of_their_coming(
    daily: Daily, at_daily: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    items = [PRESENT, PRESENT | {"id": "con-2", "joinTime": None}, without(PRESENT, "id")]
    assert await left_out(daily, at_daily, "GET /rooms/algebra/presence", items, caplog) == [
        Present("con-1", "sam", "Sam", NOON),
        Present("con-2", "sam", "Sam", None),
    ]


async def test_nobody_is_inside_a_room_that_does_not_exist(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers("GET /rooms/algebra/presence", {"error": "not-found"}, 404)
    assert await daily.presence("algebra") == []


async def test_that_nobody_is_inside_is_not_said_of_a_room_of_which_nothing_can_be_read(
    daily: Daily, at_daily: Wire
) -> None:
    at_daily.answers("GET /rooms/algebra/presence", {"data": [without(PRESENT, "id")]})
    with pytest.raises(DailyUnreadable):
        await daily.presence("algebra")


async def test_every_webhook_of_the_domain_is_told(daily: Daily, at_daily: Wire) -> None:
    ours = {
        "uuid": "w-1",
        "url": "https://us",
        "state": "ACTIVE",
        "eventTypes": ["meeting.started"],
    }
    at_daily.answers("GET /webhooks", [ours, {"uuid": "w-2", "state": None}, {"url": "https://nameless"}])
    first, second = await daily.webhooks()
    assert (first.uuid, first.url, first.state, first.event_types) == (
        "w-1",
        "https://us",
        "ACTIVE",
        frozenset({"meeting.started"}),
    )
    assert (second.uuid, second.state) == ("w-2", "")


@pytest.mark.parametrize("body", ["<html>", "[" * 100_000, "1" * 5000, "{}", "null", '{"data": 7}'])
async def test_an_answer_that_is_no_list_is_unreadable_and_not_asked_for_again(
    daily: Daily, at_daily: Wire, body: str
) -> None:
    at_daily.answers("GET /recordings", body)
    with pytest.raises(DailyUnreadable):
        await daily.recordings("algebra")
    assert len(at_daily.calls) == 1


async def test_meetings_are_read_page_by_page(daily: Daily, at_daily: Wire) -> None:
    full = [MEETING | {"id": f"met-{number}"} for number in range(100)]
    at_daily.answers("GET /meetings", {"data": [*full[:99], full[99] | {"start_time": None}]})
    page, after = await daily.meetings(room_name="algebra", since=NOON)
    assert (len(page), after) == (99, "met-99")
    at_daily.answers("GET /meetings", {"data": []})
    assert await daily.meetings(room_name="algebra", since=NOON, after="met-99") == (page, after)
    assert await daily.meetings(after="met-99") == ([], None)
    queries = [asked.query for asked in at_daily.asked]
    first = {"limit": "100", "room": "algebra", "timeframe_start": str(AT)}
    assert queries == [first, first | {"starting_after": "met-99"}, {"limit": "100", "starting_after": "met-99"}]


# Refusals and outages


@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", "", "[]", '"no"', '{"info": {"deep": 1}}'])
async def test_a_refusal_is_final_whatever_its_body_and_no_outage(daily: Daily, at_daily: Wire, body: str) -> None:
    at_daily.answers("POST /rooms/algebra/eject", body, 403)
    with pytest.raises(DailyRefused) as failure:
        await daily.eject("algebra", ["con-1"])
    assert failure.value.status == 403
    assert not isinstance(failure.value, Unavailable)
    assert len(at_daily.calls) == 1


async def test_what_is_safe_to_repeat_is_repeated_after_a_failure(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers(STOP, "<html>", 502)
    at_daily.answers(STOP, {"status": "sent"})
    assert await daily.stop_recording("algebra", INSTANCE)
    assert at_daily.calls == [STOP, STOP]


async def test_a_failure_that_goes_on_is_an_outage_after_which_the_effect_is_unknown(
    daily: Daily, at_daily: Wire
) -> None:
    at_daily.answers(STOP, {"error": "server-error"}, 500)
    with pytest.raises(DailyUnavailable) as failure:
        await daily.stop_recording("algebra", INSTANCE)
    assert failure.value.taken
    assert at_daily.calls == [STOP] * 4


async def test_what_never_reached_daily_was_certainly_not_taken(parts: Parts) -> None:
    with free_port() as port:
        async with client(f"http://{HOST}:{port}", parts.database_url) as daily:
            with pytest.raises(DailyUnavailable) as failure:
                await daily.stop_recording("algebra", INSTANCE)
    assert not failure.value.taken


# Recordings


@pytest.mark.parametrize(
    ("status", "info", "start"),
    [
        (400, "room algebra has an active stream", Start.ACTIVE),
        (400, "cannot have more than 1 streaming instance per room", Start.ACTIVE),
        (404, "room algebra does not seem to be hosting a call currently", Start.NOBODY),
    ],
)
async def test_a_start_that_is_refused_says_why(
    daily: Daily, at_daily: Wire, status: int, info: str, start: Start
) -> None:
    at_daily.answers(START, {"error": "invalid-request-error", "info": info}, status)
    assert await daily.start_recording("algebra", INSTANCE) is start
    assert at_daily.calls == [START]


@pytest.mark.parametrize(("status", "info"), [(404, "room algebra not found"), (400, "layout must be an object")])
async def test_any_other_refusal_of_a_start_is_final(daily: Daily, at_daily: Wire, status: int, info: str) -> None:
    at_daily.answers(START, {"error": "invalid-request-error", "info": info}, status)
    with pytest.raises(DailyRefused) as failure:
        await daily.start_recording("algebra", INSTANCE)
    assert (failure.value.status, failure.value.info) == (status, info)


async def test_a_start_that_may_have_been_taken_is_not_asked_for_again(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers(START, {"error": "server-error"}, 503)
    with pytest.raises(DailyUnavailable) as failure:
        await daily.start_recording("algebra", INSTANCE)
    assert failure.value.taken
    assert at_daily.calls == [START]


async def test_a_start_that_is_not_answered_in_time_may_have_been_taken(daily: Daily, at_daily: Wire) -> None:
    at_daily.open.clear()
    async with deadline.begin(1.0):
        with pytest.raises(DailyUnavailable) as failure:
            await daily.start_recording("algebra", INSTANCE)
    assert failure.value.taken
    assert at_daily.calls == [START]


async def test_a_start_names_its_instance_and_its_longest_duration(daily: Daily, at_daily: Wire) -> None:
    assert await daily.start_recording("algebra", INSTANCE) is Start.SENT
    assert at_daily.asked[0].body == {"instanceId": str(INSTANCE), "type": "cloud", "maxDuration": 21600}


@pytest.mark.parametrize("status", [400, 404])
async def test_a_stop_of_what_does_not_record_is_no_failure(daily: Daily, at_daily: Wire, status: int) -> None:
    at_daily.answers(STOP, {"error": "invalid-request-error"}, status)
    assert not await daily.stop_recording("algebra", INSTANCE)


@pytest.mark.parametrize("default", [None, DEFAULT_INSTANCE])
async def test_dailys_own_instance_is_stopped_without_naming_it(
    daily: Daily, at_daily: Wire, default: UUID | None
) -> None:
    assert await daily.stop_recording("algebra", default)
    assert at_daily.asked[0].body == {}


async def test_an_odd_id_leads_nowhere_else(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers("GET /recordings/..%2Frooms%3Fa%20%C3%A9", RECORDING)
    assert await daily.recording("../rooms?a é") is not None


# Rooms and people


async def test_a_room_is_private_and_ends_at_its_time(daily: Daily, at_daily: Wire) -> None:
    await daily.create_room("algebra", max_participants=50, recording=True, expires_at=NOON)
    await daily.create_room("art", max_participants=None, recording=False, expires_at=None)
    properties = {"max_participants": 50, "enable_recording": "cloud", "exp": AT}
    assert [asked.body for asked in at_daily.asked] == [
        {"name": "algebra", "privacy": "private", "properties": properties},
        {"name": "art", "privacy": "private", "properties": {}},
    ]


async def test_an_update_resets_what_no_longer_holds(daily: Daily, at_daily: Wire) -> None:
    later = datetime(2030, 1, 1, tzinfo=UTC)
    await daily.update_room("algebra", max_participants=None, recording=False, expires_at=None)
    assert at_daily.asked[0].body == {"properties": {"max_participants": None, "enable_recording": None, "exp": None}}
    at_daily.answers("POST /rooms/algebra", {"error": "not-found"}, 404)
    await daily.update_room("algebra", max_participants=5, recording=True, expires_at=later)


async def test_people_are_put_out_a_hundred_at_a_time(daily: Daily, at_daily: Wire) -> None:
    connections = [f"con-{number}" for number in range(150)]
    await daily.eject("algebra", connections, ["sam"])
    bodies = [asked.body for asked in at_daily.asked]
    assert bodies == [{"ids": connections[:100]}, {"ids": connections[100:]}, {"user_ids": ["sam"]}]


async def test_nobody_is_put_out_of_a_room_that_is_gone(daily: Daily, at_daily: Wire) -> None:
    at_daily.answers("POST /rooms/algebra/eject", {"error": "not-found"}, 404)
    await daily.eject("algebra", ["con-1"])
    await daily.eject("algebra")
    assert at_daily.calls == ["POST /rooms/algebra/eject"]


async def test_permissions_are_set_connection_by_connection(daily: Daily, at_daily: Wire) -> None:
    allowed = {"con-1": (True, True), "con-2": (False, True), "con-3": (True, False), "con-4": (False, False)}
    await daily.update_permissions("algebra", allowed)
    assert at_daily.asked[0].body == {
        "data": {
            "con-1": {"canSend": True},
            "con-2": {"canSend": ["video", "screenVideo"]},
            "con-3": {"canSend": ["audio", "screenAudio"]},
            "con-4": {"canSend": False},
        }
    }


async def test_a_webhook_is_made_or_put_right(daily: Daily, at_daily: Wire) -> None:
    for uuid in (None, "w-1"):
        await daily.save_webhook(uuid, url="https://us", secret="c2VjcmV0", event_types=frozenset("ba"))
    body = {"url": "https://us", "hmac": "c2VjcmV0", "eventTypes": ["a", "b"]}
    assert [(asked.call, asked.body) for asked in at_daily.asked] == [
        ("POST /webhooks", body),
        ("POST /webhooks/w-1", body),
    ]


@pytest.mark.parametrize(
    ("mic", "camera", "permissions"),
    [(True, True, None), (False, True, {"cs": "v,sv"}), (True, False, {"cs": "a,sa"}), (False, False, {"cs": False})],
)
async def test_a_meeting_token_is_as_daily_would_sign_it(
    daily: Daily, at_daily: Wire, mic: bool, camera: bool, permissions: Any
) -> None:
    at_daily.answers("GET /", {"domain_id": "dom-1"})
    token = await daily.meeting_token(
        "algebra", user="sam", name="Sam", role=Role.INSTRUCTOR, mic_allowed=mic, camera_allowed=camera
    )
    claims = jwt.decode(token, KEY, algorithms=["HS256"])
    assert claims.pop("exp") - claims.pop("iat") == 6 * 3600
    assert claims.pop("p", None) == permissions
    assert claims == {"r": "algebra", "d": "dom-1", "ud": "sam", "u": "Sam", "o": True}


# On the stand-in


@pytest.fixture
async def stand_in(parts: Parts) -> AsyncIterator[Daily]:
    async with client(f"{parts.daily_url}/v1", parts.database_url, API_KEY) as daily:
        yield daily


@pytest.fixture
def control(parts: Parts) -> Iterator[DailyControl]:
    with http_client(parts.daily_url) as http:
        control = DailyControl(http)
        yield control
        control.clear_faults()


async def test_a_class_on_the_stand_in_from_its_room_to_its_recording(stand_in: Daily, control: DailyControl) -> None:
    room, instance = f"class-{uuid4().hex}", uuid4()
    later = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(2):  # a room that exists is as good
        await stand_in.create_room(room, max_participants=5, recording=True, expires_at=later)
    token = await stand_in.meeting_token(
        room, user="sam", name="Sam", role=Role.STUDENT, mic_allowed=False, camera_allowed=True
    )
    joined = control.join(room, token)
    (inside,) = await stand_in.presence(room)
    assert (inside.connection_id, inside.user_id, inside.user_name) == (joined["session_id"], "sam", "Sam")
    assert inside.joined_at == time_of(int(joined["joined_at"]))
    await stand_in.update_permissions(room, {joined["session_id"]: (True, True)})
    assert await stand_in.start_recording(room, instance) is Start.SENT
    assert await stand_in.start_recording(room, instance) is not Start.SENT
    (recording,) = await stand_in.recordings(room)
    assert (recording.room_name, recording.status) == (room, "in-progress")
    assert await stand_in.recording(recording.id) == recording
    assert (await stand_in.access_link(recording.id)).expires_at > datetime.now(UTC)
    assert await stand_in.stop_recording(room, instance)
    await stand_in.eject(room, [joined["session_id"]])
    assert await stand_in.presence(room) == []
    (record,), _ = await stand_in.meetings(room_name=room)
    assert [(stay.connection_id, stay.user_id) for stay in record.stays] == [(joined["session_id"], "sam")]
    await stand_in.update_room(room, max_participants=None, recording=False, expires_at=None)
    for _ in range(2):
        await stand_in.delete_room(room)
    assert room not in control.rooms()
    await stand_in.update_room(room, max_participants=None, recording=False, expires_at=None)


async def test_a_start_whose_answer_is_lost_may_have_been_taken(stand_in: Daily, control: DailyControl) -> None:
    room = f"class-{uuid4().hex}"
    await stand_in.create_room(room, max_participants=None, recording=True, expires_at=None)
    control.fault("lost_answer", "POST", f"/rooms/{room}/recordings/start")
    with pytest.raises(DailyUnavailable) as failure:
        await stand_in.start_recording(room, uuid4())
    assert failure.value.taken
    assert [one["status"] for one in control.recordings(room)] == ["in-progress"]


async def test_a_room_that_daily_refuses_is_not_taken_for_one_that_exists(stand_in: Daily) -> None:
    with pytest.raises(DailyRefused) as failure:
        await stand_in.create_room("no such name!", max_participants=None, recording=False, expires_at=None)
    assert failure.value.status == 400
