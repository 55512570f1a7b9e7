"""Which tokens are trusted, by each of the ways to trust them, and what a caller is known as."""

import logging
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from server.app import authenticator
from server.caller import Caller, caller
from server.errors import Unauthenticated
from server.rpc.auth import Authenticator
from server.rpc.methods import Access
from server.settings import Settings
from storage.model import Role
from tests.clients import bearer
from tests.servers import serving
from tests.tokens import EXPIRES, KEYS, NO_ID, confused, none, pem, signed

SECRET = "a secret of more than thirty-two bytes"
ADA = Caller("ada", "Ada", Role.INSTRUCTOR)
REFUSED = "The token is not valid"


def trusting(**settings: Any) -> Authenticator:
    settings = settings if settings.keys() & {"jwt_public_key", "jwt_jwks_url"} else {"jwt_secret": SECRET} | settings
    return authenticator(Settings(database_url="postgresql:///none", daily_api_key="none", **settings))


async def caller_of(authenticator: Authenticator, token: str) -> Caller:
    await authenticator.admit(Access.SIGNED_IN, f"Bearer {token}")
    return caller()


async def refusal(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await caller_of(authenticator, token)
    return refused.value.message


# By a secret


async def test_a_token_signed_with_the_secret_names_its_caller() -> None:
    assert await caller_of(trusting(), signed(SECRET)) == ADA


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    await trusting().admit(Access.SIGNED_IN, f"{scheme} {signed(SECRET)}")
    assert caller() == ADA


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", "Token x", signed(SECRET)])
async def test_anything_else_than_a_bearer_token_is_none(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match=r"^A bearer token is required$"):
        await trusting().admit(Access.SIGNED_IN, header)


@pytest.mark.parametrize("token", ["a.b.c", "é.é.é", "[" * 9000, "....", "e30.e30.", signed(SECRET)[:-4]])
async def test_what_is_no_token_is_refused(token: str) -> None:
    assert await refusal(trusting(), token) == REFUSED


# By a public key


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_signed_with_the_private_key_is_trusted(algorithm: str) -> None:
    assert await caller_of(trusting(jwt_public_key=pem(algorithm)), signed(KEYS[algorithm], algorithm)) == ADA


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_public_key_is_no_secret_to_sign_with(algorithm: str) -> None:
    assert await refusal(trusting(jwt_public_key=pem(algorithm)), confused(algorithm)) == REFUSED


@pytest.mark.parametrize("other", ["none", "HS256", "RS256", "EdDSA"])
async def test_a_public_key_trusts_no_other_algorithm(other: str) -> None:
    tokens = {"none": none(), "HS256": signed(SECRET)}
    token = tokens.get(other) or signed(KEYS[other], other)
    assert await refusal(trusting(jwt_public_key=pem("ES256")), token) == REFUSED


def test_a_server_with_a_public_key_takes_its_tokens(stack: Stack, tmp_path: Path) -> None:
    settings = {name: value for name, value in stack.environment.items() if name != "LIVE_SESSIONS_JWT_SECRET"}
    settings["LIVE_SESSIONS_JWT_PUBLIC_KEY"] = pem("ES256")
    request = rpc.GetSessionTokenRequest(session_name="ls-no-such-session")
    with serving(settings, tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
        for token, code in (
            (signed(KEYS["ES256"], "ES256"), grpc.StatusCode.NOT_FOUND),
            (confused("ES256"), grpc.StatusCode.UNAUTHENTICATED),
            (stack.token("ada", "Ada", "instructor"), grpc.StatusCode.UNAUTHENTICATED),
        ):
            with pytest.raises(grpc.RpcError) as failed:
                LiveSessionsStub(channel).GetSessionToken(request, metadata=bearer(token), timeout=10)
            assert failed.value.code() == code


# What a token says


@pytest.mark.parametrize(
    ("claims", "known_as"),
    [
        ({"id": "x", "sub": "y"}, Caller("x", "Ada", Role.INSTRUCTOR)),
        ({"id": None, "sub": "y"}, Caller("y", "Ada", Role.INSTRUCTOR)),
        ({"name": None}, Caller("ada", None, Role.INSTRUCTOR)),
        ({"name": ""}, Caller("ada", None, Role.INSTRUCTOR)),
        ({"name": 5}, Caller("ada", None, Role.INSTRUCTOR)),
        ({"name": "x" * 200}, Caller("ada", "x" * 128, Role.INSTRUCTOR)),
        ({"role": None}, Caller("ada", "Ada", Role.STUDENT)),
        ({"role": "student"}, Caller("ada", "Ada", Role.STUDENT)),
        ({"role": "admin"}, Caller("ada", "Ada", Role.STUDENT)),
        ({"role": ["instructor"]}, Caller("ada", "Ada", Role.STUDENT)),
        ({"id": "x" * 128}, Caller("x" * 128, "Ada", Role.INSTRUCTOR)),
        ({"id": "Ada Lovelace/1 ü"}, Caller("Ada Lovelace/1 ü", "Ada", Role.INSTRUCTOR)),
    ],
    ids=str,
)
async def test_a_caller_is_known_as_the_token_says(claims: dict[str, Any], known_as: Caller) -> None:
    assert await caller_of(trusting(), signed(SECRET, **claims)) == known_as


@pytest.mark.parametrize("id", ["", "x" * 129, "a\nb", "a\0", "\u202eada", 5, True, ["ada"], {"id": "ada"}], ids=repr)
async def test_an_id_that_is_none_is_refused(id: object) -> None:
    assert await refusal(trusting(), signed(SECRET, id=id, sub="y")) == NO_ID


@pytest.mark.parametrize("exp", ["tomorrow", float("inf"), float("nan"), [], None], ids=repr)
async def test_a_token_must_say_until_when_it_is_good(exp: object) -> None:
    assert await refusal(trusting(), signed(SECRET, exp=exp)) == REFUSED


async def test_a_token_may_not_be_used_before_its_time() -> None:
    assert await refusal(trusting(), signed(SECRET, nbf=EXPIRES)) == REFUSED


@pytest.mark.parametrize("claim", ["exp", "nbf"])
async def test_a_clock_may_differ_by_a_minute_and_no_more(claim: str) -> None:
    now, sign = time.time(), 1 if claim == "nbf" else -1
    assert await caller_of(trusting(), signed(SECRET, **{claim: now + sign * 50})) == ADA
    refused = {"exp": "The token has expired", "nbf": REFUSED}[claim]
    assert await refusal(trusting(), signed(SECRET, **{claim: now + sign * 70})) == refused


@pytest.mark.parametrize(
    "claims", [{"iat": EXPIRES}, {"iat": "yesterday"}, {"sub": 5}, {"sub": ["x"]}, {"jti": 7}], ids=", ".join
)
async def test_what_does_not_matter_here_does_not_matter(claims: dict[str, Any]) -> None:
    assert await caller_of(trusting(), signed(SECRET, **claims)) == ADA


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (signed(SECRET, exp=1_700_000_000), "it has expired"),
        (signed("another secret of enough bytes, yes"), "Signature verification failed"),
        (signed(SECRET, id=5), "it names no user"),
        (signed(SECRET, nbf=EXPIRES), "The token is not yet valid (nbf)"),
        (signed(SECRET, exp=None), 'Token is missing the "exp" claim'),
        ("garbage", "Not enough segments"),
    ],
    ids=lambda each: each if " " in each else "",
)
async def test_why_a_token_was_refused_is_in_the_log_and_the_token_is_not(
    caplog: pytest.LogCaptureFixture, token: str, why: str
) -> None:
    with caplog.at_level(logging.INFO):
        await refusal(trusting(), token)
    assert caplog.messages == [f"a token was refused: {why!r}"]


# Issuer and audience


@pytest.mark.parametrize("issuer", [None, "https://other.example", ""])
async def test_where_an_issuer_is_set_every_other_is_refused(issuer: object) -> None:
    assert await refusal(trusting(jwt_issuer="https://id.example"), signed(SECRET, iss=issuer)) == REFUSED


@pytest.mark.parametrize("audience", [None, "other", ["other"], 5])
async def test_where_an_audience_is_set_every_other_is_refused(audience: object) -> None:
    assert await refusal(trusting(jwt_audience="live"), signed(SECRET, aud=audience)) == REFUSED


@pytest.mark.parametrize("audience", ["live", ["other", "live"]])
async def test_the_right_issuer_and_audience_are_admitted(audience: object) -> None:
    authenticator = trusting(jwt_issuer="https://id.example", jwt_audience="live")
    assert await caller_of(authenticator, signed(SECRET, iss="https://id.example", aud=audience)) == ADA


@pytest.mark.parametrize("audience", ["another service", ["one", "two"], 5])
async def test_where_no_audience_is_set_none_is_checked(audience: object) -> None:
    assert await caller_of(trusting(), signed(SECRET, aud=audience)) == ADA
