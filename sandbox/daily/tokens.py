"""Meeting tokens: HS256 under the API key, whether this API made them or the service signed them itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from . import checks
from .errors import invalid
from .model import JSON, now

ALL_ROOMS = "*"  # in `r` of a token that the API made without room_name; no room can have this name
USER_ID: checks.Check = ("a string of at most 36 characters", lambda v: isinstance(v, str) and len(v) <= 36)
CLAIMS: dict[str, tuple[str, checks.Check]] = {
    "nbf": ("nbf", checks.NUMBER),
    "exp": ("exp", checks.NUMBER),
    "d": ("domain_id", checks.STRING),
    "r": ("room_name", checks.STRING),
    "ud": ("user_id", USER_ID),
    "u": ("user_name", checks.STRING),
    "o": ("is_owner", checks.BOOLEAN),
    "er": ("enable_recording", checks.one_of("cloud", "cloud-audio-only", "local", "raw-tracks")),
    "ss": ("enable_screenshare", checks.BOOLEAN),
    "vo": ("start_video_off", checks.BOOLEAN),
    "ao": ("start_audio_off", checks.BOOLEAN),
    "ejt": ("eject_at_token_exp", checks.BOOLEAN),
    "eje": ("eject_after_elapsed", checks.POSITIVE_INT),
    "p": ("permissions", checks.PERMISSION_SET),
    "k": ("knocking", checks.BOOLEAN),
    "erui": ("enable_recording_ui", checks.BOOLEAN),
    "sr": ("start_cloud_recording", checks.BOOLEAN),
    "sro": ("start_cloud_recording_opts", checks.OBJECT),
    "ctoe": ("close_tab_on_exit", checks.BOOLEAN),
    "rome": ("redirect_on_meeting_exit", checks.STRING),
    "ast": ("auto_start_transcription", checks.BOOLEAN),
    "uil": ("lang", checks.STRING),
    # Daily documents no abbreviation of these; only its API makes tokens that have them.
    "epui": ("enable_prejoin_ui", checks.BOOLEAN),
    "elcui": ("enable_live_captions_ui", checks.BOOLEAN),
    "etl": ("enable_terse_logging", checks.BOOLEAN),
}
CLAIM_OF = {name: claim for claim, (name, _) in CLAIMS.items()}
CHECKS = dict(CLAIMS.values())
SEND = {
    "v": "video",
    "a": "audio",
    "sv": "screenVideo",
    "sa": "screenAudio",
    "cv": "customVideo",
    "ca": "customAudio",
}
ADMIN = {"p": "participants", "s": "streaming", "t": "transcription"}
RECEIVE = {"b": "base", "u": "byUserId", "p": "byParticipantId"}
PERMISSIONS: dict[str, tuple[str, dict[str, str]]] = {
    "hp": ("hasPresence", {}),
    "cs": ("canSend", SEND),
    "ca": ("canAdmin", ADMIN),
}


@dataclass(frozen=True)
class Tokens:
    api_key: str
    domain_id: str

    def create(self, properties: Any) -> str:
        if not isinstance(properties, dict):
            raise invalid("properties must be an object")
        given = {name: value for name, value in properties.items() if value is not None}
        if unknown := given.keys() - CLAIM_OF.keys() | given.keys() & {"domain_id"}:
            raise invalid(f"unknown property {min(unknown)}")
        checks.check(given, CHECKS)
        claims = {"r": ALL_ROOMS, "d": self.domain_id, "iat": int(now())}
        claims |= {CLAIM_OF[name]: value for name, value in given.items()}
        if "p" in claims:
            claims["p"] = _short_permissions(given["permissions"])
        return jwt.encode(claims, self.api_key, algorithm="HS256")

    def read(self, token: str, *, ignore_nbf: bool = False) -> JSON:
        """The token's properties under their long names; 400 for a token that Daily would not take."""
        try:
            claims = jwt.decode(
                token,
                self.api_key,
                algorithms=["HS256"],
                options={"require": ["r", "d"], "verify_nbf": not ignore_nbf},
            )
        except jwt.InvalidTokenError as error:
            raise invalid(f"invalid token: {error}") from None
        if claims["d"] != self.domain_id:
            raise invalid("invalid token: it belongs to another domain")
        properties = {name: claims[claim] for claim, (name, _) in CLAIMS.items() if claim in claims}
        if "permissions" in properties:
            properties["permissions"] = _long_permissions(properties["permissions"])
        checks.check(properties, CHECKS)
        if properties["room_name"] == ALL_ROOMS:
            del properties["room_name"]
        return properties

    def shown(self, token: str, *, ignore_nbf: bool) -> JSON:
        """What the API answers: as `read`, but for the permissions, which stay short."""
        properties = self.read(token, ignore_nbf=ignore_nbf)
        if "permissions" in properties:
            properties["permissions"] = _short_permissions(properties["permissions"])
        return properties


def _short_permissions(permissions: JSON) -> JSON:
    short: JSON = {}
    for claim, (name, words) in PERMISSIONS.items():
        if name in permissions:
            value = permissions[name]
            letters = {word: letter for letter, word in words.items()}
            short[claim] = value if isinstance(value, bool) else ",".join(letters[word] for word in value)
    if "canReceive" in permissions:
        letters = {word: letter for letter, word in RECEIVE.items()}
        short["cr"] = {letters[word]: value for word, value in permissions["canReceive"].items()}
    return short


def _long_permissions(short: Any) -> JSON:
    if not isinstance(short, dict) or short.keys() - PERMISSIONS.keys() - {"cr"}:
        raise invalid("invalid token: p must be an object of hp, cs, cr, ca")
    long: JSON = {
        name: _words(claim, short[claim], words) for claim, (name, words) in PERMISSIONS.items() if claim in short
    }
    if "cr" in short:
        receive = short["cr"]
        if not isinstance(receive, dict) or receive.keys() - RECEIVE.keys():
            raise invalid("invalid token: p.cr must be an object of b, u, p")
        long["canReceive"] = {RECEIVE[letter]: value for letter, value in receive.items()}
    return long


def _words(claim: str, value: Any, words: Mapping[str, str]) -> bool | list[str]:
    if isinstance(value, bool):
        return value
    letters = value.split(",") if isinstance(value, str) and value else []
    if not words or not isinstance(value, str) or not set(letters) <= words.keys():
        raise invalid(f"invalid token: p.{claim} must be a boolean or a comma string of {', '.join(words)}")
    return [words[letter] for letter in letters]
