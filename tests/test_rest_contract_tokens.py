"""Meeting tokens over REST: what Daily and a browser find in them."""

import time
from typing import Any

import httpx
import jwt
import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, said

SIX_HOURS = 6 * 3600


def token(rest: Rest, room_name: str, user: str, role: str = "student") -> str:
    status, body = said(rest.call("POST", f"/sessions/{room_name}/token", user, role))
    assert (status, list(body)) == (200, ["token"])
    return str(body["token"])


def claims(stack: Stack, token: str) -> dict[str, Any]:
    """What the token says, its signature checked as Daily checks it: with our API key there."""
    return dict(jwt.decode(token, stack.environment["LIVE_SESSIONS_DAILY_API_KEY"], algorithms=["HS256"]))


@pytest.mark.parametrize(("role", "is_owner"), [("instructor", True), ("student", False), ("admin", False)])
def test_the_token_says_who_joins_which_room_and_instructors_own_it(
    stack: Stack, rest: Rest, role: str, is_owner: bool
) -> None:
    name = rest.create("contract-tokens")["roomName"]
    caller = stack.token(id="contract-user", name="Zoë 張", role=role)
    before = int(time.time())
    answer = rest.call("POST", f"/sessions/{name}/token", headers={"Authorization": f"Bearer {caller}"})
    said_by_token = claims(stack, answer.json()["token"])

    issued = said_by_token["iat"]
    assert before <= issued <= time.time()
    assert said_by_token == {
        "r": name,
        "d": domain_id(stack),
        "ud": "contract-user",
        "u": "Zoë 張",
        "o": is_owner,
        "iat": issued,
        "exp": issued + SIX_HOURS,
    }


def domain_id(stack: Stack) -> str:
    key = stack.environment["LIVE_SESSIONS_DAILY_API_KEY"]
    domain = httpx.get(f"{stack.daily_url}/v1/", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    return str(domain.json()["domain_id"])


def test_the_token_opens_the_room_at_daily(rest: Rest, daily: DailyControl) -> None:
    name = rest.create("contract-tokens")["roomName"]
    joined = daily.join(name, token(rest, name, "contract-joins"))
    assert (joined["user_id"], joined["user_name"]) == ("contract-joins", "contract-joins")


def test_a_user_id_longer_than_daily_takes_works_and_stays_itself_with_us(
    stack: Stack, rest: Rest, daily: DailyControl
) -> None:
    name = rest.create("contract-tokens")["roomName"]
    user = "contract-" + "x" * 119
    issued = token(rest, name, user)
    assert len(claims(stack, issued)["ud"]) == 36
    daily.join(name, issued)

    [participant] = rest.call("GET", f"/sessions/{name}/participants", "contract-tokens").json()
    assert participant["userId"] == user


def test_an_instructor_id_of_128_characters_owns_its_sessions(rest: Rest) -> None:
    me = "i" * 128
    created = rest.create(me)
    assert created["createdBy"] == me
    assert created in rest.call("GET", f"/sessions/instructor/{me}").json()
    assert rest.call("DELETE", f"/sessions/{created['roomName']}", me).status_code == 200


def test_asking_for_a_token_records_the_participant_once(rest: Rest) -> None:
    session = rest.create("contract-tokens")
    for _ in range(2):
        token(rest, session["roomName"], "contract-sam")

    status, [participant] = said(rest.call("GET", f"/sessions/{session['roomName']}/participants", "contract-tokens"))
    assert status == 200
    assert participant == {
        "_id": participant["_id"],
        "userId": "contract-sam",
        "sessionId": session["_id"],
        "role": "student",
        "wasKicked": False,
        "micAllowed": True,
        "cameraAllowed": True,
        "createdAt": participant["createdAt"],
        "updatedAt": participant["createdAt"],
    }


def test_an_ended_session_gives_no_token(rest: Rest) -> None:
    name = rest.create("contract-tokens")["roomName"]
    rest.call("DELETE", f"/sessions/{name}", "contract-tokens")
    answer = rest.call("POST", f"/sessions/{name}/token", "contract-sam", "student")
    assert said(answer) == (400, {"message": "Session has ended"})


@pytest.mark.parametrize("body", [b"", b"{}", b'{"anything": [1, 2]}'])
@pytest.mark.parametrize("verb", ["start-recording", "stop-recording", "token"])
def test_posts_that_need_no_body_take_none_or_an_object(rest: Rest, verb: str, body: bytes) -> None:
    name = rest.recording("contract-tokens")["roomName"]
    assert rest.call("POST", f"/sessions/{name}/{verb}", "contract-tokens", content=body).status_code == 200
