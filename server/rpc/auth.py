"""Who calls: a bearer JWT becomes a `Caller`, who may or may not."""

import logging
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server.caller import Caller, set_caller
from server.errors import PermissionDenied, Unauthenticated
from server.rpc.jwks import PublishedKeys
from server.rpc.methods import Access
from storage.model import Role

logger = logging.getLogger(__name__)

ALGORITHMS = {
    rsa.RSAPublicKey: ["RS256", "RS384", "RS512"],
    ec.EllipticCurvePublicKey: ["ES256", "ES384", "ES512"],
    ed25519.Ed25519PublicKey: ["EdDSA"],
}
MAX_ID = 128
MAX_NAME = 128
LEEWAY = 60
"""Seconds by which the clock of whoever signs tokens may differ from ours."""


class Authenticator:
    """Checks tokens against one key source: a secret, a public key, or the keys published at a URL."""

    def __init__(
        self,
        *,
        secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._jwks: PublishedKeys | None = None
        self._key: Any = None
        # The caller's id is checked below; when a token was issued, and its own id, decide nothing.
        self._checks: Any = {
            "require": ["exp"],
            "verify_aud": audience is not None,
            "verify_iat": False,
            "verify_sub": False,
            "verify_jti": False,
        }
        self._algorithms = [name for names in ALGORITHMS.values() for name in names]
        if secret is not None:
            self._key = secret
            self._algorithms = ["HS256"]
        elif public_key is not None:
            self._key = load_pem_public_key(public_key.encode())
            self._algorithms = next(names for kind, names in ALGORITHMS.items() if isinstance(self._key, kind))
        else:
            self._jwks = PublishedKeys(str(jwks_url))

    async def admit(self, access: Access, authorization: str | None) -> None:
        """Lets the call pass, with its caller known, or raises Unauthenticated, PermissionDenied, Unavailable."""
        if access in (Access.PUBLIC, Access.DAILY) or (access is Access.OPTIONAL and authorization is None):
            return
        caller = await self._authenticate(authorization)
        if access is Access.INSTRUCTOR and caller.role is not Role.INSTRUCTOR:
            raise PermissionDenied("Only instructors can create sessions")
        set_caller(caller)

    async def _authenticate(self, authorization: str | None) -> Caller:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A bearer token is required")
        try:
            key = self._key if self._jwks is None else await self._jwks.key_of(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options=self._checks,
            )
        except jwt.ExpiredSignatureError:
            raise _refused("it has expired", "The token has expired") from None
        except (jwt.PyJWTError, ValueError) as problem:
            raise _refused(str(problem), "The token is not valid") from None
        return _caller_of(claims)


def _refused(why: str, message: str) -> Unauthenticated:
    """`why`, of which the token's holder learns nothing, is the library's sentence, and never has the token in it."""
    logger.info("a token was refused: %.200r", why)
    return Unauthenticated(message)


def _caller_of(claims: dict[str, Any]) -> Caller:
    id = claims.get("id", claims.get("sub"))
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID or not id.isprintable():
        message = f"The token names no user: id must be 1 to {MAX_ID} printable characters"
        raise _refused("it names no user", message)
    name = claims.get("name")
    role = Role.INSTRUCTOR if claims.get("role") == Role.INSTRUCTOR else Role.STUDENT
    return Caller(id, name[:MAX_NAME] if isinstance(name, str) and name else None, role)
