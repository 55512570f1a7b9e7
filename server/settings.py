"""The only reader of the environment: LIVE_SESSIONS_… as one frozen object."""

import base64
import os
from typing import Annotated, Self
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from server import logs
from server.receiver import is_url
from storage.url import is_valid, place

PREFIX = "LIVE_SESSIONS_"


class InvalidSettings(Exception):
    """One line that says which variable is wrong and why; never its value."""


def _database_url(url: SecretStr) -> SecretStr:
    plain = url.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)
    if not plain.startswith(("postgresql://", "postgres://")) or not is_valid(plain):
        raise ValueError("must be a postgresql:// URL")
    return SecretStr(plain)


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an http:// or https:// URL")
    return url


def _address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be host:port")
    return address


def _listener(address: str) -> str:
    return address if address.startswith("unix:/") else _address(address)


def _long_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < 32:
        raise ValueError("must have at least 32 bytes")
    return secret


def _public_key(pem: str) -> str:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise ValueError("must be a PEM public key: RSA, EC or Ed25519")
    return pem


def _base64_secret(secret: SecretStr) -> SecretStr:
    try:
        decoded = base64.b64decode(secret.get_secret_value(), validate=True)
    except ValueError:
        decoded = b""
    if len(decoded) < 16:
        raise ValueError("must be base64 of at least 16 bytes")
    return secret


def _events_url(url: SecretStr) -> SecretStr:
    _http_url(url.get_secret_value())
    if not is_url(url.get_secret_value()):
        raise ValueError("must be an http:// or https:// URL")
    return url


def signing_keys(secrets: SecretStr) -> list[bytes]:
    """Those of Standard Webhooks: `whsec_` and base64, with commas between them."""
    texts = [text.strip().removeprefix("whsec_") for text in secrets.get_secret_value().split(",")]
    return [base64.b64decode(text, validate=True) for text in texts]


def _events_secret(secrets: SecretStr) -> SecretStr:
    written = all(text.strip().startswith("whsec_") for text in secrets.get_secret_value().split(","))
    try:
        usable = written and all(24 <= len(key) <= 64 for key in signing_keys(secrets))
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be whsec_ and base64 of 24 to 64 bytes, or several such with commas between them")
    return secrets


Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
BaseUrl = Annotated[HttpUrl, AfterValidator(lambda url: url.rstrip("/"))]
"""Paths are added to it."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    grpc_address: Annotated[str, AfterValidator(_listener)] = "127.0.0.1:50051"
    metrics_address: Annotated[str, AfterValidator(_address)] | None = None
    log_format: logs.Format = "text"
    jwt_secret: Annotated[SecretStr, AfterValidator(_long_secret)] | None = None
    jwt_public_key: Annotated[str, AfterValidator(_public_key)] | None = None
    jwt_jwks_url: HttpUrl | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    daily_api_url: BaseUrl = "https://api.daily.co/v1"
    daily_api_key: Annotated[SecretStr, Field(min_length=1)]
    daily_webhook_secret: Annotated[SecretStr, AfterValidator(_base64_secret)] | None = None
    public_url: BaseUrl | None = None
    events_url: Annotated[SecretStr, AfterValidator(_events_url)] | None = None
    events_secret: Annotated[SecretStr, AfterValidator(_events_secret)] | None = None
    daily_max_participants: Annotated[int, Field(ge=1, le=100_000)] = 200
    empty_timeout: Seconds = 900
    no_show_timeout: Seconds = 86_400
    max_duration: Seconds = 43_200
    closing_time: Seconds = 300

    @model_validator(mode="after")
    def _one_way_to_trust_tokens(self) -> Self:
        if sum(value is not None for value in (self.jwt_secret, self.jwt_public_key, self.jwt_jwks_url)) != 1:
            raise ValueError(f"exactly one of {PREFIX}JWT_SECRET, _JWT_PUBLIC_KEY and _JWT_JWKS_URL must be set")
        return self

    @model_validator(mode="after")
    def _events_are_signed(self) -> Self:
        if (self.events_url is None) != (self.events_secret is None):
            raise ValueError(f"{PREFIX}EVENTS_URL and _EVENTS_SECRET must be set together")
        return self

    def shown(self) -> dict[str, str]:
        """What is set; of secrets and keys no more than that they are."""
        values = dict(self) | {"database_url": place(self.database_url.get_secret_value())}
        return {name: _shown(value) for name, value in values.items() if value is not None}


def _shown(value: object) -> str:
    if isinstance(value, SecretStr) or "\n" in str(value):
        return "set"
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        url = urlsplit(value)  # without user, password and query
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
    return str(value)


def traces_are_wanted() -> bool:
    """Whether the standard variables name a collector. Raises InvalidSettings for a protocol that is not spoken."""

    def standard(name: str) -> str:
        return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""

    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not standard("ENDPOINT"):
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    if standard("PROTOCOL") not in ("", "http/protobuf"):
        raise InvalidSettings("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf")
    return True


def load() -> Settings:
    """The settings of this process. Raises InvalidSettings for a missing, malformed or unknown variable."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise InvalidSettings(f"unknown setting: {', '.join(unknown)}")
    try:
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        raise InvalidSettings("; ".join(_line(problem) for problem in error.errors())) from None


def _line(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "is required"
    name = f"{PREFIX}{str(problem['loc'][0]).upper()} " if problem["loc"] else ""
    return name + message
