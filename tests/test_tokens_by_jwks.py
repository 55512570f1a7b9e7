"""Tokens trusted by the keys that an identity provider publishes: rotation, withdrawal, outages, floods."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from jwt.algorithms import get_default_algorithms

from server.app import authenticator
from server.caller import caller
from server.errors import Unauthenticated, Unavailable
from server.rpc.auth import Authenticator
from server.rpc.jwks import PublishedKeys
from server.rpc.methods import Access
from server.settings import Settings
from tests.tokens import KEYS, signed

RSA, EC = (signed(KEYS[algorithm], algorithm, kid=algorithm) for algorithm in ("RS256", "ES256"))
SHARED = "a shared secret that somebody published"


class Provider:
    """Publishes keys at its URL, and counts how often they are read."""

    def __init__(self, *algorithms: str) -> None:
        self.reads = 0
        self.up = True
        self.answered = threading.Event()
        self.answered.set()
        self.publish(*algorithms)
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.reads += 1
                provider.answered.wait(10)
                self.send_response(200 if provider.up else 503)
                self.end_headers()
                self.wfile.write(provider.body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, *algorithms: str, others: tuple[dict[str, Any], ...] = ()) -> None:
        self.body = json.dumps({"keys": [*map(_jwk, algorithms), *others]}).encode()

    def close(self) -> None:
        self.answered.set()
        self._server.shutdown()
        self._server.server_close()


def _jwk(algorithm: str) -> dict[str, Any]:
    public = json.loads(get_default_algorithms()[algorithm].to_jwk(KEYS[algorithm].public_key()))
    return public | {"kid": algorithm, "use": "sig", "alg": algorithm}


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider("RS256")
    yield provider
    provider.close()


def trusting(provider: Provider) -> Authenticator:
    settings: dict[str, Any] = {"database_url": "postgresql:///none", "daily_api_key": "none"}
    return authenticator(Settings(**settings, jwt_jwks_url=provider.url))


async def known(keys: PublishedKeys, token: str) -> bool:
    try:
        await keys.key_of(token)
    except jwt.PyJWTError:
        return False
    return True


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_signed_with_a_published_key_is_trusted(provider: Provider, algorithm: str) -> None:
    provider.publish(*KEYS)
    await trusting(provider).admit(Access.SIGNED_IN, f"Bearer {signed(KEYS[algorithm], algorithm, kid=algorithm)}")
    assert caller().id == "ada"


@pytest.mark.parametrize(
    "token",
    [
        signed(KEYS["RS256"], "RS256"),
        signed(KEYS["RS256"], "RS256", kid="unknown"),
        signed(KEYS["ES256"], "ES256", kid="RS256"),
        signed(KEYS["RS256"], "RS512", kid="RS256"),
        signed(SHARED, "HS256", kid="RS256"),
        signed(SHARED, "HS256", kid="shared"),
    ],
    ids=["no kid", "unknown kid", "another's kid", "another algorithm", "a secret", "a published secret"],
)
async def test_any_other_token_is_refused(provider: Provider, token: str) -> None:
    shared = json.loads(get_default_algorithms()["HS256"].to_jwk(SHARED.encode()))
    provider.publish("RS256", others=(shared | {"kid": "shared", "use": "sig", "alg": "HS256"},))
    with pytest.raises(Unauthenticated, match=r"^The token is not valid$"):
        await trusting(provider).admit(Access.SIGNED_IN, f"Bearer {token}")


async def test_many_calls_read_the_keys_once(provider: Provider) -> None:
    keys = PublishedKeys(provider.url)
    assert all(await asyncio.gather(*(known(keys, RSA) for _ in range(100))))
    assert provider.reads == 1


async def test_a_new_key_is_picked_up(provider: Provider) -> None:
    keys = PublishedKeys(provider.url, cool_down=0)
    assert await known(keys, RSA)
    assert not await known(keys, EC)
    provider.publish("RS256", "ES256")
    assert await known(keys, EC)


async def test_a_withdrawn_key_is_trusted_no_longer_than_the_keys_are_kept(provider: Provider) -> None:
    keys = PublishedKeys(provider.url, lifespan=0, cool_down=0)
    assert await known(keys, RSA)
    provider.publish("ES256")
    async with asyncio.timeout(10):
        while await known(keys, RSA):  # noqa: ASYNC110  # each call is what has old keys read anew, in the background
            await asyncio.sleep(0.01)
    assert await known(keys, EC)


async def test_unknown_keys_however_many_do_not_have_the_keys_read_each_time(provider: Provider) -> None:
    keys = PublishedKeys(provider.url)
    assert await known(keys, RSA)
    unknown = [signed(KEYS["RS256"], "RS256", kid=f"flood-{i}") for i in range(50)]
    assert not any(await asyncio.gather(*(known(keys, token) for token in unknown)))
    assert provider.reads == 1


async def test_while_the_keys_cannot_be_read_those_read_before_stay_trusted(provider: Provider) -> None:
    keys = PublishedKeys(provider.url, lifespan=0, cool_down=0)
    assert await known(keys, RSA)
    provider.up = False
    with pytest.raises(Unavailable):
        await keys.key_of(EC)
    assert await known(keys, RSA)


async def test_keys_that_were_never_read_are_no_reason_to_refuse_anybody(provider: Provider) -> None:
    provider.up = False
    with pytest.raises(Unavailable):
        await trusting(provider).admit(Access.SIGNED_IN, f"Bearer {RSA}")


async def test_an_outage_is_not_made_worse_by_asking_each_time(provider: Provider) -> None:
    provider.up = False
    keys = PublishedKeys(provider.url)
    for _ in range(20):
        with pytest.raises(Unavailable):
            await keys.key_of(RSA)
    assert provider.reads == 1


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"keys": []}', b'{"keys": 5}', b"\xff", b"[" * 100_000])
async def test_what_are_no_keys_is_an_outage(provider: Provider, body: bytes) -> None:
    provider.body = body
    with pytest.raises(Unavailable):
        await PublishedKeys(provider.url).key_of(RSA)


async def test_who_holds_a_known_key_does_not_wait_for_a_slow_provider(provider: Provider) -> None:
    keys = PublishedKeys(provider.url, cool_down=0)
    assert await known(keys, RSA)
    provider.answered.clear()
    strangers = [asyncio.create_task(known(keys, EC)) for _ in range(50)]
    await asyncio.sleep(0)  # now they wait
    async with asyncio.timeout(2):
        assert await known(keys, RSA)
    provider.answered.set()
    assert not any(await asyncio.gather(*strangers))


async def test_who_gives_up_waiting_does_not_stop_the_reading(provider: Provider) -> None:
    keys = PublishedKeys(provider.url)
    provider.answered.clear()
    first = asyncio.create_task(known(keys, RSA))
    second = asyncio.create_task(known(keys, RSA))
    await asyncio.sleep(0)
    first.cancel()
    provider.answered.set()
    assert await second
    assert provider.reads == 1
