"""The stack's secrets, made once and kept, and callers' tokens signed with them."""

import json
import os
import secrets
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt

from sandbox.process import SandboxError

LIFETIME = timedelta(hours=24)
JWT_SETTINGS = ("LIVE_SESSIONS_JWT_SECRET", "LIVE_SESSIONS_JWT_PUBLIC_KEY", "LIVE_SESSIONS_JWT_JWKS_URL")


def given_settings() -> dict[str, str]:
    """The service's settings that are in the environment already; they win over the sandbox's own."""
    return {name: value for name, value in os.environ.items() if name.startswith("LIVE_SESSIONS_") and value}


def kept_secrets(data_dir: Path) -> dict[str, str]:
    """The settings in <data_dir>/secrets.json; none when there is no such file yet."""
    path = data_dir / "secrets.json"
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SandboxError(f"{path} cannot be read: {error}") from error
    return kept


def make_secrets(data_dir: Path) -> dict[str, str]:
    """The kept secrets, made first where there are none; only this user may read the file."""
    if kept := kept_secrets(data_dir):
        return kept
    made = {
        "LIVE_SESSIONS_JWT_SECRET": secrets.token_hex(32),
        "LIVE_SESSIONS_DAILY_API_KEY": secrets.token_hex(32),
        "LIVE_SESSIONS_DAILY_WEBHOOK_SECRET": b64encode(secrets.token_bytes(32)).decode(),
    }
    draft = data_dir / "secrets.json.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(made, file, indent=1)
    draft.replace(data_dir / "secrets.json")
    return made


def caller_settings(data_dir: Path) -> dict[str, str]:
    """What signs a caller's token when no stack is at hand: the environment's secret, else the kept one."""
    given = given_settings()
    return given if given.keys() & set(JWT_SETTINGS) else kept_secrets(data_dir) | given


def caller_token(settings: Mapping[str, str], user_id: str, name: str, role: str) -> str:
    """A caller's JWT, as the product's sign-in would issue it; valid for 24 hours."""
    secret = settings.get("LIVE_SESSIONS_JWT_SECRET")
    if not secret:
        raise SandboxError(
            "there is no secret to sign tokens with: start the stack once, or set LIVE_SESSIONS_JWT_SECRET"
        )
    now = datetime.now(UTC)
    claims = {"id": user_id, "name": name, "role": role, "iat": now, "exp": now + LIFETIME}
    for claim, setting in (("iss", "LIVE_SESSIONS_JWT_ISSUER"), ("aud", "LIVE_SESSIONS_JWT_AUDIENCE")):
        if setting in settings:
            claims[claim] = settings[setting]
    return jwt.encode(claims, secret, algorithm="HS256")
