"""Which connections Daily is told of, with which permissions somebody has joined, and what a change comes to."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from server.daily.events import Joined
from server.daily.model import Present, Stay
from server.errors import FailedPrecondition
from server.usecases import rules
from server.usecases.moderation import permissions
from storage.model import Connection, Moderated, Session, SessionChanges, SessionStatus

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
SOUND, PICTURE = frozenset({"audio", "screenAudio"}), frozenset({"video", "screenVideo"})
NOTHING_ASKED = SessionChanges(None, None, None, None)


def person(user: str, *, mic: bool = True, camera: bool = True, settled: bool = True) -> Moderated:
    values = {"id": uuid4(), "daily_user_id": user, "was_kicked": False, "mic_allowed": mic, "camera_allowed": camera}
    values |= {"unsettled_at": None if settled else NOW, "all_sent": settled}
    return Moderated(**(dict.fromkeys(field.name for field in fields(Moderated)) | values))  # type: ignore[arg-type]


def inside(id: str, user: str) -> Connection:
    return Connection(id, user, NOW, None)


def present(id: str, user: str) -> Present:
    return Present(id, user, None, NOW)


def session(**columns: object) -> Session:
    values: dict[str, object] = {
        "id": UUID(int=1),
        "course_id": "algebra",
        "room_name": "room",
        "status": SessionStatus.SCHEDULED,
        "starts_at": NOW,
        "ends_at": None,
        "created_by": "ada",
        "recording_enabled": True,
        "max_participants": 50,
        "created_at": NOW,
        "updated_at": NOW,
    }
    unset = {field.name: None for field in fields(Session)}
    return Session(**(unset | values | columns))  # type: ignore[arg-type]


# Connections


def test_of_somebody_who_is_not_settled_daily_is_told_of_all_devices() -> None:
    people = [person("sam", mic=False, settled=False)]
    told = permissions(people, [inside("phone", "sam"), inside("other", "eve")], [present("laptop", "sam")])
    assert told == {"phone": (False, True), "laptop": (False, True)}


def test_of_somebody_who_is_settled_daily_is_told_of_devices_that_nobody_told_us_of() -> None:
    people = [person("sam", camera=False)]
    told = permissions(people, [inside("phone", "sam")], [present("phone", "sam"), present("laptop", "sam")])
    assert told == {"laptop": (True, False)}


def test_of_nobody_else_daily_is_told() -> None:
    assert permissions([], [inside("phone", "sam")], [present("laptop", "eve")]) == {}


# What they may send


@pytest.mark.parametrize(
    ("can_send", "allowed"),
    [
        (True, (True, True)),
        (False, (False, False)),
        (SOUND | PICTURE, (True, True)),
        (SOUND | PICTURE | {"customVideo"}, (True, True)),
        (frozenset(), (False, False)),
        (SOUND, (True, False)),
        (PICTURE, (False, True)),
        (frozenset({"audio"}), None),
        (frozenset({"audio", "video"}), None),
        (None, None),
    ],
)
def test_what_somebody_joined_with_is_told_from_all_else(
    can_send: frozenset[str] | bool | None, allowed: tuple[bool, bool] | None
) -> None:
    joined = Joined("room", Stay("id", "sam", None, NOW, None), False, can_send)
    for mic in (True, False):
        for camera in (True, False):
            assert joined.may_send(mic_allowed=mic, camera_allowed=camera) == ((mic, camera) == allowed)


# Changes


def test_only_what_differs_is_changed() -> None:
    assert rules.changes(session(), NOTHING_ASKED) == {}
    assert rules.changes(session(), SessionChanges("algebra", NOW, True, 50)) == {}
    assert rules.changes(session(), SessionChanges("geometry", None, False, 0)) == {
        "course_id": "geometry",
        "recording_enabled": False,
        "max_participants": None,
    }
    assert rules.changes(session(max_participants=None), SessionChanges(None, None, None, 0)) == {}


def test_a_live_session_keeps_its_start() -> None:
    live = session(status=SessionStatus.LIVE)
    assert rules.changes(live, SessionChanges(None, NOW, None, None)) == {}
    with pytest.raises(FailedPrecondition, match="Session has started"):
        rules.changes(live, SessionChanges(None, NOW + timedelta(seconds=1), None, None))


def test_a_session_that_is_to_end_is_not_changed() -> None:
    with pytest.raises(FailedPrecondition, match="Session has ended"):
        rules.changes(session(end_requested_at=NOW), SessionChanges("geometry", None, None, None))


@pytest.mark.parametrize(
    ("changed", "updated", "stale"),
    [(None, None, False), (NOW, None, True), (NOW, NOW, False), (NOW + timedelta(seconds=1), NOW, True)],
)
def test_a_room_is_stale_until_its_last_change_is_certain(
    changed: datetime | None, updated: datetime | None, stale: bool
) -> None:
    assert rules.room_is_stale(session(room_changed_at=changed, room_updated_at=updated)) is stale
