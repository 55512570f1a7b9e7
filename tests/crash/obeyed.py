"""Rules for while classes go on, once nothing is the matter any more: Daily's rooms are as instructors want them."""

from typing import Any

from tests.crash.facts import Facts, Found, Rule

PUT_OUT = 15.0
"""Seconds for which somebody who was removed may be inside, when nobody tells of their coming."""


def _open(facts: Facts) -> set[str]:
    """The rooms of sessions whose end nobody has asked for."""
    return {row["room_name"] for row in facts.sessions if row["end_requested_at"] is None}


def _stays(facts: Facts) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Who is inside such a room, each with their row."""
    rows = {(row["room_name"], row["daily_user_id"]): row for row in facts.participants}
    rooms = _open(facts)
    inside = [one for one in facts.state["connections"] if one["left_at"] is None and one["room"] in rooms]
    return [(one, rows[one["room"], one["user_id"]]) for one in inside if (one["room"], one["user_id"]) in rows]


def _removed_and_inside(facts: Facts) -> Found:
    for stay, row in _stays(facts):
        if row["was_kicked"] and stay["joined_at"] < facts.now.timestamp() - PUT_OUT:
            yield stay["room"], f"{row['user_id']} was removed, and is inside since {stay['joined_at']}"


def _permissions(facts: Facts) -> Found:
    for stay, row in _stays(facts):
        if row["role"] == "student" and not row["was_kicked"]:
            can_send = stay["permissions"]["canSend"]
            sent = {"audio", "video"} if can_send is True else set(can_send or ()) & {"audio", "video"}
            allowed = {"audio": row["mic_allowed"], "video": row["camera_allowed"]}
            wanted = {medium for medium, is_allowed in allowed.items() if is_allowed}
            if sent != wanted:
                yield stay["room"], f"{row['user_id']} may send {sorted(wanted)} and sends {sorted(sent)}"


def _limits(facts: Facts) -> Found:
    at_daily = {room["name"]: room.get("config", {}).get("max_participants") for room in facts.state["rooms"]}
    rooms = _open(facts)
    for row in facts.sessions:
        room = row["room_name"]
        if room in rooms and room in at_daily and at_daily[room] != row["max_participants"]:
            yield room, f"its limit is {row['max_participants']}, and Daily's {at_daily[room]}"


RULES: dict[str, Rule] = {
    "removed and inside": _removed_and_inside,
    "permission differs": _permissions,
    "limit differs": _limits,
}
