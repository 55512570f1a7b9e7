"""The stand-in takes and makes meeting tokens as Daily does."""

import time
import uuid

import jwt
import pytest

from tests.sandbox_daily.stand_in import JSON, KEY, Daily, is_error


def test_a_token_reads_back_under_its_long_names(daily: Daily) -> None:
    exp = int(time.time()) + 60
    permissions = {
        "hasPresence": True,
        "canSend": ["video", "customAudio"],
        "canReceive": {"base": True},
        "canAdmin": False,
    }
    properties = {
        "room_name": "r",
        "user_id": "u-1",
        "user_name": "Ada",
        "exp": exp,
        "permissions": permissions,
    }
    token = daily.api.post("/meeting-tokens", json={"properties": properties}).json()["token"]
    claims = jwt.decode(token, KEY, algorithms=["HS256"])
    short = {"hp": True, "cs": "v,ca", "cr": {"b": True}, "ca": False}
    assert claims["p"] == short
    read = daily.api.get(f"/meeting-tokens/{token}").json()
    assert read == properties | {"permissions": short, "domain_id": daily.api.get("/").json()["domain_id"]}


def test_every_documented_property_of_a_token_reads_back(daily: Daily) -> None:
    properties = {
        "room_name": "a-room-that-does-not-exist",
        "nbf": 1.5,
        "exp": time.time() + 60.5,
        "enable_recording": "cloud-audio-only",
        "enable_recording_ui": False,
        "start_cloud_recording": True,
        "start_cloud_recording_opts": {"layout": {"preset": "default"}},
        "enable_prejoin_ui": False,
        "close_tab_on_exit": True,
        "redirect_on_meeting_exit": "https://example.org/",
        "auto_start_transcription": True,
        "lang": "de",
        "knocking": False,
        "enable_live_captions_ui": True,
        "enable_terse_logging": True,
    }
    token = daily.api.post("/meeting-tokens", json={"properties": properties}).json()["token"]
    read = daily.api.get(f"/meeting-tokens/{token}").json()
    assert read == properties | {"domain_id": daily.api.get("/").json()["domain_id"]}


def test_a_self_signed_token_needs_no_iat_and_may_have_a_float_exp(daily: Daily) -> None:
    room = daily.room()
    claims = {"r": room, "d": daily.api.get("/").json()["domain_id"], "exp": time.time() + 60.5}
    token = jwt.encode(claims, KEY, algorithm="HS256")
    assert daily.api.get(f"/meeting-tokens/{token}").status_code == 200
    assert daily.join(room, token)["session_id"]


def test_a_self_signed_token_is_as_good_as_one_of_the_api(daily: Daily) -> None:
    token = daily.token(r="hello", o=True, ud="ins-1", p={"cs": "sv,sa", "ca": "p"})
    read = daily.api.get(f"/meeting-tokens/{token}").json()
    assert (read["room_name"], read["is_owner"], read["user_id"]) == ("hello", True, "ins-1")
    assert read["permissions"] == {"cs": "sv,sa", "ca": "p"}


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


@pytest.mark.parametrize("missing", ["r", "d"])
def test_a_self_signed_token_needs_each_required_claim(daily: Daily, missing: str) -> None:
    claims = {"r": "a", "iat": 1, "d": daily.api.get("/").json()["domain_id"]}
    del claims[missing]
    answer = daily.api.get(f"/meeting-tokens/{jwt.encode(claims, KEY, algorithm='HS256')}")
    assert is_error(answer, 400, "invalid-request-error", f'missing the "{missing}" claim')


def test_a_token_that_is_not_valid_yet_can_still_be_read(daily: Daily) -> None:
    token = daily.token(r="a", nbf=4102444800)
    assert daily.api.get(f"/meeting-tokens/{token}", params={"ignoreNbf": "true"}).status_code == 200
