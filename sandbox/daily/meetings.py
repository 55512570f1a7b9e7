"""Daily's records of calls: meetings with who was there, and presence, both in whole seconds."""

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import DailyError, invalid
from .model import JSON, Connection, Meeting, iso, now
from .paging import limit_of, page
from .state import State


def listed(state: State, query: Mapping[str, str]) -> JSON:
    """Newest first, narrowed by room, start time (`timeframe_*`, unix s) and `ongoing`."""
    earliest = _seconds(query, "timeframe_start", float("-inf"))
    latest = _seconds(query, "timeframe_end", float("inf"))
    ongoing = _flag(query, "ongoing")
    among: Iterable[Meeting] = state.meetings.values()
    if "room" in query:
        among = state.meetings_of.get(query["room"], [])
    found = [
        meeting
        for meeting in among
        if earliest <= int(meeting.start_time) <= latest and ongoing in (None, _is_ongoing(meeting))
    ]
    with_participants = not _flag(query, "no_participants")
    shown = [view(state, one, with_participants) for one in page(found[::-1], query, lambda one: one.id)]
    return {"total_count": len(found), "data": shown}


def find(state: State, meeting_id: str) -> Meeting:
    if meeting := state.meetings.get(meeting_id):
        return meeting
    raise DailyError(404, f"meeting {meeting_id} not found")


def participants(state: State, meeting_id: str, query: Mapping[str, str]) -> JSON:
    """In the order of joining; `joined_after` and `joined_before` are participant ids."""
    stays = _recorded(state, find(state, meeting_id))
    ids = [stay.session_id for stay in stays]
    try:
        start = ids.index(query["joined_after"]) + 1 if "joined_after" in query else 0
        end = ids.index(query["joined_before"]) if "joined_before" in query else len(ids)
    except ValueError:
        raise invalid("joined_after and joined_before must be ids of participants of the meeting") from None
    return {"data": [_participant(state, stay) for stay in stays[start:end][: limit_of(query)]]}


def view(state: State, meeting: Meeting, with_participants: bool = True) -> JSON:
    end = now() if _is_ongoing(meeting) else meeting.end_time
    shown: JSON = {
        "id": meeting.id,
        "room": meeting.room,
        "start_time": int(meeting.start_time),
        "duration": _whole(meeting.start_time, end),
        "ongoing": _is_ongoing(meeting),
        "max_participants": meeting.max_participants,
    }
    if with_participants:
        shown["participants"] = [_participant(state, stay) for stay in _recorded(state, meeting)]
    return state.odd.shown(shown, "meeting", meeting.id, meeting.room)


def presence(state: State, room: str) -> JSON:
    data = _present(state, room)
    return {"total_count": len(data), "data": data}


def domain_presence(state: State) -> JSON:
    """All who are in a call, by room."""
    rooms = state.meetings_of if state.settings.presence_lag else state.open_meetings
    return {room: present for room in list(rooms) if (present := _present(state, room))}


def _present(state: State, room: str) -> list[JSON]:
    """Those who were there `presence_lag` ago: who has left since is still shown, who came since is not yet."""
    moment = now()
    seen = moment - state.settings.presence_lag
    among: Iterable[Connection] = ()
    if state.settings.presence_lag:
        among = (stay for meeting in state.meetings_of.get(room, []) for stay in meeting.connections)
    elif meeting := state.open_meetings.get(room):
        among = meeting.inside.values()
    return [
        state.odd.shown(_presence(stay, moment), "participant", stay.session_id, room)
        for stay in among
        if stay.joined_at <= seen and (stay.left_at is None or stay.left_at > seen)
    ]


def _presence(stay: Connection, moment: float) -> JSON:
    return {
        "room": stay.room,
        "id": stay.session_id,
        "userId": stay.user_id,
        "userName": stay.user_name,
        "joinTime": iso(int(stay.joined_at)),
        "duration": int(moment - stay.joined_at),
    }


def _participant(state: State, stay: Connection) -> JSON:
    shown = {
        "user_id": stay.user_id,
        "user_name": stay.user_name,
        "participant_id": stay.session_id,
        "join_time": int(stay.joined_at),
        "duration": _whole(stay.joined_at, stay.left_at),
    }
    return state.odd.shown(shown, "participant", stay.session_id, stay.room)


def _recorded(state: State, meeting: Meeting) -> list[Connection]:
    """The stays that were, so far, long enough for Daily to keep them."""
    shortest, moment = state.settings.min_stay, now()
    return [stay for stay in meeting.connections if (stay.left_at or moment) - stay.joined_at >= shortest]


def _is_ongoing(meeting: Meeting) -> bool:
    return meeting.end_time is None or (meeting.told_at is not None and meeting.told_at > now())


def _whole(start: float, end: float | None) -> int:
    """Whole seconds from the second of the start to the second of the end; an open end is now."""
    return int(now() if end is None else end) - int(start)


def _flag(query: Mapping[str, str], name: str) -> bool | None:
    value = query.get(name)
    if value not in (None, "true", "false"):
        raise invalid(f"{name} must be true or false")
    return None if value is None else value == "true"


def _seconds(query: Mapping[str, str], name: str, default: Any) -> float:
    try:
        return float(query.get(name, default))
    except ValueError:
        raise invalid(f"{name} must be a number (unix seconds)") from None
