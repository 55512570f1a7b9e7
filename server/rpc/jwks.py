"""The keys that sign callers' tokens, as an identity provider publishes them at a JWKS URL."""

import asyncio
import time

import jwt

from server.errors import Unavailable

TIMEOUT = 5.0
LIFESPAN = 300.0
"""Seconds after which the keys are read again, so that a key that was withdrawn is trusted no longer."""
COOL_DOWN = 5.0
"""Seconds between two readings, whatever tokens name and whether or not the first one succeeded."""


class PublishedKeys:
    """While the URL cannot be read, the keys that were read last stay trusted."""

    def __init__(self, url: str, *, lifespan: float = LIFESPAN, cool_down: float = COOL_DOWN) -> None:
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=TIMEOUT)
        self._lifespan = lifespan
        self._cool_down = cool_down
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def key_of(self, token: str) -> jwt.PyJWK:
        """Raises jwt.PyJWTError for a token that names none of the keys, Unavailable when that cannot be told."""
        kid = jwt.get_unverified_header(token).get("kid")
        if kid is None:
            raise jwt.InvalidTokenError("the token names no key")
        known = self._keys.get(kid)
        if known is None or time.monotonic() - self._read_at > self._lifespan:
            self._read_again()
        if known is None and self._reading is not None:
            await asyncio.shield(self._reading)
            known = self._keys.get(kid)
        if known is not None:
            return known
        if self._read_at < self._tried_at:
            raise Unavailable("the JWKS cannot be read")
        raise jwt.InvalidTokenError("no published key has this name")

    def _read_again(self) -> None:
        """In the background: who holds a known key does not wait, and who gives up waiting does not stop it."""
        if self._reading is None and time.monotonic() - self._tried_at > self._cool_down:
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        self._tried_at = time.monotonic()
        try:
            keys = await asyncio.to_thread(self._client.get_signing_keys)
            self._keys = {key.key_id: key for key in keys if key.key_id is not None}
            self._read_at = self._tried_at
        except (jwt.PyJWTError, OSError, ValueError, RecursionError):
            return  # key_of sees that nothing was read
        finally:
            self._reading = None
