"""The environment of a server: what it takes, what it refuses and how, and that it tells no secret."""

import base64
import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from server.settings import InvalidSettings, load, signing_keys
from tests.servers import run
from tests.tokens import KEYS, pem

PASSWORD = "database-password-9c1e"
SECRET = "jwt-secret-of-more-than-32-bytes-4f7a"
API_KEY = "daily-api-key-77b0"
WEBHOOK_SECRET = base64.b64encode(b"webhook-secret-d2f0").decode()
SECRETS = (PASSWORD, SECRET, API_KEY, WEBHOOK_SECRET)
NEEDED = {
    "DATABASE_URL": f"postgresql://ada:{PASSWORD}@db.example:5432/sessions",
    "JWT_SECRET": SECRET,
    "DAILY_API_KEY": API_KEY,
    "DAILY_WEBHOOK_SECRET": WEBHOOK_SECRET,
}
ONE_KEY = "exactly one of LIVE_SESSIONS_JWT_SECRET, _JWT_PUBLIC_KEY and _JWT_JWKS_URL must be set"
EVENTS_SECRET = "whsec_" + base64.b64encode(b"a secret of the events, 5c").decode()
HOOK_PASSWORD = "hook-password-1f"
EVENTS = {
    "EVENTS_URL": f"https://hook:{HOOK_PASSWORD}@school.example/hooks/?of=live",
    "EVENTS_SECRET": EVENTS_SECRET,
}
WHSEC = "must be whsec_ and base64 of 24 to 64 bytes, or several such with commas between them"
WRONG_EVENTS_SECRETS = [
    EVENTS_SECRET.removeprefix("whsec_"),
    "whsec_not base64: d2f0",
    "whsec_größe",
    "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "whsec_" + base64.b64encode(b"x" * 65).decode(),
    f"{EVENTS_SECRET},",
    f"{EVENTS_SECRET} {EVENTS_SECRET}",
]
NO_KEY = "LIVE_SESSIONS_JWT_PUBLIC_KEY must be a PEM public key: RSA, EC or Ed25519"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A complete one, without anything else of ours."""
    for name in [name for name in os.environ if name.upper().startswith("LIVE_SESSIONS_")]:
        monkeypatch.delenv(name)
    give(monkeypatch, NEEDED)
    return monkeypatch


def give(environment: pytest.MonkeyPatch, settings: dict[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            environment.delenv(f"LIVE_SESSIONS_{name}")
        else:
            environment.setenv(f"LIVE_SESSIONS_{name}", value)


def refusal(environment: pytest.MonkeyPatch, **settings: str | None) -> str:
    give(environment, settings)
    with pytest.raises(InvalidSettings) as refused:
        load()
    return str(refused.value)


# What is refused


@pytest.mark.parametrize("given", ["EVENTS_URL", "EVENTS_SECRET"])
def test_where_events_go_and_how_they_are_signed_are_set_together(environment: pytest.MonkeyPatch, given: str) -> None:
    value = {"EVENTS_URL": "https://school.example/hook", "EVENTS_SECRET": EVENTS_SECRET}[given]
    problem = "LIVE_SESSIONS_EVENTS_URL and _EVENTS_SECRET must be set together"
    assert refusal(environment, **{given: value}) == problem


@pytest.mark.parametrize("name", ["DATABASE_URL", "DAILY_API_KEY"])
@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
def test_what_is_required_must_be_given(environment: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    assert refusal(environment, **{name: value}) == f"LIVE_SESSIONS_{name} is required"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("DATABASE_URL", f"mysql://ada:{PASSWORD}@db.example/sessions", "must be a postgresql:// URL"),
        ("DATABASE_URL", f"ada:{PASSWORD}@db.example/sessions", "must be a postgresql:// URL"),
        ("DATABASE_URL", "postgresql://ada:pass%word@db.example/sessions", "must be a postgresql:// URL"),
        ("DATABASE_URL", "postgresql://ada:pass/word@db.example/sessions", "must be a postgresql:// URL"),
        ("GRPC_ADDRESS", "50051", "must be host:port"),
        ("GRPC_ADDRESS", "127.0.0.1:", "must be host:port"),
        ("GRPC_ADDRESS", "unix:relative", "must be host:port"),
        ("GRPC_ADDRESS", "127.0.0.1:http", "must be host:port"),
        ("GRPC_ADDRESS", "127.0.0.1:65536", "must be host:port"),
        ("GRPC_ADDRESS", "127.0.0.1:²", "must be host:port"),
        ("METRICS_ADDRESS", "9464", "must be host:port"),
        ("LOG_FORMAT", "xml", "Input should be 'text' or 'json'"),
        ("JWT_SECRET", "x" * 31, "must have at least 32 bytes"),
        ("DAILY_API_URL", "api.daily.co/v1", "must be an http:// or https:// URL"),
        ("DAILY_API_URL", "http://[api.daily.co/v1", "must be an http:// or https:// URL"),
        ("DAILY_API_URL", "http://api.daily.co:port/v1", "must be an http:// or https:// URL"),
        ("DAILY_WEBHOOK_SECRET", "not base64: d2f0", "must be base64 of at least 16 bytes"),
        ("DAILY_WEBHOOK_SECRET", "b25seSAxNSBieXRlcy4u"[:-4], "must be base64 of at least 16 bytes"),
        ("DAILY_WEBHOOK_SECRET", "größe", "must be base64 of at least 16 bytes"),
        ("PUBLIC_URL", "ftp://live.example", "must be an http:// or https:// URL"),
        *(
            ("EVENTS_URL", url, "must be an http:// or https:// URL")
            for url in (
                "ftp://hook:pass@school.example",
                "school.example/hook",
                "https://",
                "http://[hook",
                "http://a:0/",
            )
        ),
        *(("EVENTS_SECRET", secret, WHSEC) for secret in WRONG_EVENTS_SECRETS),
        ("EMPTY_TIMEOUT", "-1", "Input should be greater than or equal to 0"),
        ("NO_SHOW_TIMEOUT", "31536001", "Input should be less than or equal to 31536000"),
        ("CLOSING_TIME", "1.5", "Input should be a valid integer, unable to parse string as an integer"),
        ("DAILY_MAX_PARTICIPANTS", "0", "Input should be greater than or equal to 1"),
    ],
)
def test_what_is_malformed_is_named_and_never_shown(
    environment: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    assert refusal(environment, **{name: value}) == f"LIVE_SESSIONS_{name} {problem}"


@pytest.mark.parametrize(
    "key",
    [
        "-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----\n",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHV4",
        KEYS["ES256"]
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode(),
        x25519.X25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    ],
    ids=["cut", "of SSH", "private", "that cannot sign"],
)
def test_a_public_key_must_be_one_that_can_verify_tokens(environment: pytest.MonkeyPatch, key: str) -> None:
    assert refusal(environment, JWT_SECRET=None, JWT_PUBLIC_KEY=key) == NO_KEY


def test_a_jwks_url_must_be_of_the_web(environment: pytest.MonkeyPatch) -> None:
    problem = refusal(environment, JWT_SECRET=None, JWT_JWKS_URL="file:///etc/keys.json")
    assert problem == "LIVE_SESSIONS_JWT_JWKS_URL must be an http:// or https:// URL"


def test_there_must_be_one_way_to_trust_tokens(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, JWT_SECRET=None) == ONE_KEY


def test_there_must_not_be_two_ways_to_trust_tokens(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, JWT_PUBLIC_KEY=pem("RS256")) == ONE_KEY


def test_an_unknown_variable_is_refused(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, DAILY_KEY=API_KEY) == "unknown setting: LIVE_SESSIONS_DAILY_KEY"


def test_all_that_is_wrong_is_told_at_once(environment: pytest.MonkeyPatch) -> None:
    problem = refusal(environment, DAILY_API_KEY=None, GRPC_ADDRESS="50051")
    assert problem == "LIVE_SESSIONS_GRPC_ADDRESS must be host:port; LIVE_SESSIONS_DAILY_API_KEY is required"


# What is taken


def test_what_may_be_left_out_has_the_documented_defaults() -> None:
    settings = load()
    assert settings.grpc_address == "127.0.0.1:50051"
    assert settings.daily_api_url == "https://api.daily.co/v1"
    assert (settings.metrics_address, settings.log_format) == (None, "text")
    left_out = ("jwt_public_key", "jwt_jwks_url", "jwt_issuer", "jwt_audience", "public_url")
    assert [getattr(settings, name) for name in left_out] == [None] * 5
    rules = ("empty_timeout", "no_show_timeout", "max_duration", "closing_time", "daily_max_participants")
    assert [getattr(settings, name) for name in rules] == [900, 86400, 43200, 300, 200]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_database_url_may_name_sqlalchemys_driver(environment: pytest.MonkeyPatch, scheme: str) -> None:
    give(environment, {"DATABASE_URL": f"{scheme}://ada@db.example/sessions"})
    plain = scheme.removesuffix("+psycopg")
    assert load().database_url.get_secret_value() == f"{plain}://ada@db.example/sessions"


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_public_key_may_be_rsa_ec_or_ed25519(environment: pytest.MonkeyPatch, algorithm: str) -> None:
    give(environment, {"JWT_SECRET": None, "JWT_PUBLIC_KEY": pem(algorithm)})
    assert load().jwt_public_key == pem(algorithm)


def test_a_database_may_have_several_hosts(environment: pytest.MonkeyPatch) -> None:
    url = "postgresql://ada:pass%25word@db-1:5432,db-2:5433/sessions?target_session_attrs=read-write"
    give(environment, {"DATABASE_URL": url})
    assert load().database_url.get_secret_value() == url


def test_an_ipv6_address_is_a_host(environment: pytest.MonkeyPatch) -> None:
    give(environment, {"GRPC_ADDRESS": "[::1]:50051"})
    assert load().grpc_address == "[::1]:50051"


def test_a_server_may_serve_on_a_unix_socket(environment: pytest.MonkeyPatch) -> None:
    give(environment, {"GRPC_ADDRESS": "unix:/run/live-sessions/1.sock"})
    assert load().grpc_address == "unix:/run/live-sessions/1.sock"


def test_a_url_to_which_paths_are_added_may_end_with_a_slash(environment: pytest.MonkeyPatch) -> None:
    give(environment, {"PUBLIC_URL": "https://live.example/", "DAILY_API_URL": "https://api.daily.example/v1/"})
    assert (load().public_url, load().daily_api_url) == ("https://live.example", "https://api.daily.example/v1")


def test_keys_are_read_at_the_very_url_that_was_given(environment: pytest.MonkeyPatch) -> None:
    give(environment, {"JWT_SECRET": None, "JWT_JWKS_URL": "https://id.example/keys/"})
    assert load().jwt_jwks_url == "https://id.example/keys/"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().public_url = "https://elsewhere.example"


def test_events_go_to_the_very_url_that_was_given(environment: pytest.MonkeyPatch) -> None:
    give(environment, EVENTS)
    url = load().events_url
    assert url is not None
    assert url.get_secret_value() == EVENTS["EVENTS_URL"]


def test_events_are_signed_with_each_of_the_secrets_that_were_given(environment: pytest.MonkeyPatch) -> None:
    other = "whsec_" + base64.b64encode(b"x" * 64).decode()
    give(environment, EVENTS | {"EVENTS_SECRET": f"{other}, {EVENTS_SECRET}"})
    secret = load().events_secret
    assert secret is not None
    assert signing_keys(secret) == [b"x" * 64, b"a secret of the events, 5c"]


# What is never told


def test_neither_repr_nor_str_shows_a_secret(environment: pytest.MonkeyPatch) -> None:
    give(environment, EVENTS)
    settings = load()
    for text in (repr(settings), str(settings), str(settings.shown())):
        assert [secret for secret in (*SECRETS, HOOK_PASSWORD, EVENTS_SECRET) if secret in text] == []


def test_what_is_shown_at_the_start_is_all_but_secrets(environment: pytest.MonkeyPatch) -> None:
    give(environment, {"JWT_SECRET": None, "JWT_PUBLIC_KEY": pem("ES256"), "CLOSING_TIME": "60"})
    give(environment, {"PUBLIC_URL": "https://ada:secret@live.example/api?key=secret"})
    assert load().shown() == {
        "database_url": "db.example:5432/sessions",
        "grpc_address": "127.0.0.1:50051",
        "log_format": "text",
        "jwt_public_key": "set",
        "daily_api_url": "https://api.daily.co/v1",
        "daily_api_key": "set",
        "daily_webhook_secret": "set",
        "public_url": "https://live.example/api",
        "daily_max_participants": "200",
        "empty_timeout": "900",
        "no_show_timeout": "86400",
        "max_duration": "43200",
        "closing_time": "60",
    }


def test_a_server_that_is_refused_its_settings_ends_with_one_line() -> None:
    given = {f"LIVE_SESSIONS_{name}": value for name, value in NEEDED.items()}
    ended = run(settings=given | {"LIVE_SESSIONS_DATABASE_URL": f"mysql://ada:{PASSWORD}@db.example"})
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == "live-sessions: LIVE_SESSIONS_DATABASE_URL must be a postgresql:// URL\n"


def test_a_server_with_a_bad_public_key_ends_with_one_line() -> None:
    given = {f"LIVE_SESSIONS_{name}": value for name, value in NEEDED.items() if name != "JWT_SECRET"}
    ended = run(settings=given | {"LIVE_SESSIONS_JWT_PUBLIC_KEY": "not a key"})
    assert (ended.returncode, ended.stderr) == (1, f"live-sessions: {NO_KEY}\n")
