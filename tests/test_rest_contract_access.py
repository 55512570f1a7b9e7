"""Who may call what over REST: each documented refusal, word for word, and in which order they are decided."""

import time

import jwt
import pytest

from sandbox.stack import Stack
from tests.clients import EXAMPLE, Rest, said

OWNERS = {
    ("DELETE", ""): "delete",
    ("POST", "/start-recording"): "record",
    ("POST", "/stop-recording"): "stop recording",
    ("GET", "/recording"): "access recording for",
}
PROTECTED = [*OWNERS, ("POST", "/token")]
NEEDS_TOKEN = (401, {"error": "Unauthorized", "message": "A bearer token is required"})


@pytest.mark.parametrize(("method", "verb"), PROTECTED)
def test_without_a_token_nothing_is_looked_at(rest: Rest, method: str, verb: str) -> None:
    answer = rest.call(method, f"/sessions/unique-room-name{verb}")
    assert said(answer) == NEEDS_TOKEN
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_create_without_a_token_is_refused(rest: Rest) -> None:
    answer = rest.call("POST", "/sessions", json=EXAMPLE)
    assert said(answer) == NEEDS_TOKEN
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "verb"), PROTECTED)
def test_a_session_that_does_not_exist_is_not_found(rest: Rest, method: str, verb: str) -> None:
    answer = rest.call(method, f"/sessions/unique-room-name{verb}", "access-ada")
    assert said(answer) == (404, {"message": "Session not found"})


@pytest.mark.parametrize(("method", "verb"), OWNERS)
def test_another_instructor_is_not_authorized(rest: Rest, method: str, verb: str) -> None:
    name = rest.create("access-ada", recordingEnabled=False)["roomName"]
    answer = rest.call(method, f"/sessions/{name}{verb}", "access-eve")
    assert said(answer) == (403, {"message": f"Not authorized to {OWNERS[method, verb]} session:{name}"})
    assert rest.get(name)["status"] == "scheduled"


@pytest.mark.parametrize("authorization", ["Basic YWRhOmFkYQ==", "Bearer", "ada"])
def test_what_is_no_bearer_token_counts_as_none(rest: Rest, authorization: str) -> None:
    answer = rest.call("POST", "/sessions", json=EXAMPLE, headers={"Authorization": authorization})
    assert said(answer) == NEEDS_TOKEN


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": -61}, "The token has expired"),
        ({"exp": None}, "The token is not valid"),
        ({"id": None}, "The token names no user: id must be 1 to 128 printable characters"),
        ({"id": 5}, "The token names no user: id must be 1 to 128 printable characters"),
        ({"id": "x" * 129}, "The token names no user: id must be 1 to 128 printable characters"),
        ({"id": "a\x00b"}, "The token names no user: id must be 1 to 128 printable characters"),
    ],
)
def test_a_token_with_unusable_claims_is_refused(
    stack: Stack, rest: Rest, claims: dict[str, object], message: str
) -> None:
    made = {"id": "access-ada", "name": "Ada", "role": "instructor", "exp": 60} | claims
    if isinstance(made["exp"], int):
        made["exp"] += int(time.time())
    key = stack.environment["LIVE_SESSIONS_JWT_SECRET"]
    token = jwt.encode({name: value for name, value in made.items() if value is not None}, key, "HS256")
    answer = rest.call("POST", "/sessions", json=EXAMPLE, headers={"Authorization": f"Bearer {token}"})
    assert said(answer) == (401, {"error": "Unauthorized", "message": message})


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "é", "x" * 30_000])
def test_a_token_that_is_none_of_ours_is_refused(rest: Rest, token: str) -> None:
    answer = rest.call("POST", "/sessions", json=EXAMPLE, headers={"Authorization": f"Bearer {token}".encode()})
    assert said(answer) == (401, {"error": "Unauthorized", "message": "The token is not valid"})


def test_a_token_signed_with_another_secret_is_refused(rest: Rest) -> None:
    token = jwt.encode(
        {"id": "access-ada", "exp": int(time.time()) + 60}, "another secret of at least 32 bytes", "HS256"
    )
    answer = rest.call("POST", "/sessions", json=EXAMPLE, headers={"Authorization": f"Bearer {token}"})
    assert said(answer) == (401, {"error": "Unauthorized", "message": "The token is not valid"})


def test_an_unsigned_token_is_refused(rest: Rest) -> None:
    token = jwt.encode({"id": "access-ada", "exp": int(time.time()) + 60}, None, "none")
    answer = rest.call("POST", "/sessions", json=EXAMPLE, headers={"Authorization": f"Bearer {token}"})
    assert said(answer) == (401, {"error": "Unauthorized", "message": "The token is not valid"})


def test_the_subject_of_a_token_without_an_id_is_the_caller(stack: Stack, rest: Rest) -> None:
    claims = {"sub": "access-sub", "name": "Ada", "role": "instructor", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, stack.environment["LIVE_SESSIONS_JWT_SECRET"], "HS256")
    status, session = said(rest.call("POST", "/sessions", json=EXAMPLE, headers={"Authorization": f"bearer {token}"}))
    assert (status, session["createdBy"]) == (201, "access-sub")
