"""Callers' tokens, good and bad, and keys to sign them with."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, Key] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
EXPIRES = int(time.time()) + 3600
NO_ID = "The token names no user: id must be 1 to 128 printable characters"


def claims(**changes: Any) -> dict[str, Any]:
    """Those of an instructor; None leaves one out."""
    given = {"id": "ada", "name": "Ada", "role": "instructor", "exp": EXPIRES} | changes
    return {name: value for name, value in given.items() if value is not None}


def signed(key: str | Key, algorithm: str = "HS256", kid: str | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid} if kid else None)


def forged(algorithm: str) -> str:
    """Well signed, by a key that nobody trusts unless it was told to."""
    return signed(KEYS[algorithm], algorithm)


def pem(algorithm: str) -> str:
    """The public key in text."""
    return (
        KEYS[algorithm]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def none(**changes: Any) -> str:
    return _by_hand({"alg": "none"}, claims(**changes), b"")


def confused(algorithm: str = "RS256") -> str:
    """HS256 with the public key, which everybody has, as its secret. jwt.encode refuses to make it."""
    return _by_hand({"alg": "HS256"}, claims(), pem(algorithm).encode())


def _by_hand(header: dict[str, str], payload: dict[str, Any], secret: bytes) -> str:
    text = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(payload).encode())}"
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest() if secret else b""
    return f"{text}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
