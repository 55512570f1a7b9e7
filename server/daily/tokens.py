"""Meeting tokens, signed here as Daily itself would sign them: joining a class needs no call to Daily."""

import time
import uuid

import jwt

TOKEN_LIFETIME = 6 * 3600
MAX_USER_ID = 36
# Our ids longer than Daily's limit are replaced by a name-based UUID in this namespace.
USER_IDS = uuid.UUID("6a7d9f2e-0f6b-5d0c-9c1e-5b1f6b0c2a44")
LETTERS = {"video": "v", "screenVideo": "sv", "audio": "a", "screenAudio": "sa"}


def user_id(id: str) -> str:
    """The id under which Daily knows one of our users."""
    return id if len(id) <= MAX_USER_ID else str(uuid.uuid5(USER_IDS, id))


def sends(*, mic_allowed: bool, camera_allowed: bool) -> bool | list[str]:
    """What somebody may send, as Daily's `canSend`."""
    if mic_allowed and camera_allowed:
        return True
    return ["video", "screenVideo"] * camera_allowed + ["audio", "screenAudio"] * mic_allowed or False


def signed(
    api_key: str,
    domain_id: str,
    room_name: str,
    *,
    user: str,
    name: str,
    is_owner: bool,
    mic_allowed: bool,
    camera_allowed: bool,
) -> str:
    """A token for this user id (inside Daily) and this room alone."""
    now = int(time.time())
    claims: dict[str, object] = {
        "r": room_name,
        "d": domain_id,
        "ud": user,
        "u": name,
        "o": is_owner,
        "iat": now,
        "exp": now + TOKEN_LIFETIME,
    }
    allowed = sends(mic_allowed=mic_allowed, camera_allowed=camera_allowed)
    if allowed is not True:
        claims["p"] = {"cs": allowed and ",".join(LETTERS[word] for word in allowed)}
    return jwt.encode(claims, api_key, algorithm="HS256")
