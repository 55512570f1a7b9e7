"""Daily's webhook is ours: at our url, with our events, active, whatever is done to it. Nobody else's is touched."""

from collections.abc import Callable, Iterator

import pytest

from sandbox.daily.model import EVENT_TYPES
from tests.clients import eventually
from tests.faults.steps import Own, call, enter, make_chore_due, own_stack, stays, warnings


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    with own_stack() as running:
        yield running


@pytest.fixture(autouse=True)
def one_webhook(own: Own) -> Iterator[None]:
    yield
    own.daily.reset()
    for webhook in own.daily.state()["webhooks"]:
        if webhook["url"] != url(own):
            own.daily.delete_webhook(webhook["uuid"])
    make_chore_due(own.database, "webhook")
    eventually(lambda: is_right(own))


def url(own: Own) -> str:
    return f"{own.stack.rest_url}/webhooks/daily"


def ours(own: Own) -> dict[str, object]:
    return next((one for one in own.daily.state()["webhooks"] if one["url"] == url(own)), {})


def is_right(own: Own) -> bool:
    webhook = ours(own)
    types = set(webhook.get("eventTypes", ()))
    return webhook.get("state") == "ACTIVE" and types >= set(EVENT_TYPES)


def uuid(own: Own) -> str:
    return str(ours(own)["uuid"])


SPOILT: dict[str, Callable[[Own], None]] = {
    "deleted": lambda own: own.daily.delete_webhook(uuid(own)),
    "with other events": lambda own: own.daily.put_webhook(uuid(own), eventTypes=["meeting.started"]),
    "failed": lambda own: own.daily.put_webhook(uuid(own), state="FAILED"),
    "inactive": lambda own: own.daily.put_webhook(uuid(own), state="INACTIVE"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_our_webhook_is_put_right_and_what_it_did_not_tell_is_found(own: Own, spoil: Callable[[Own], None]) -> None:
    room = own.rest.create()["roomName"]
    token = call(own.rest, "token", room, "sam", "student").json()["token"]
    spoil(own)
    sam = own.daily.join(room, token)
    own.daily.leave(room, sam["session_id"])
    assert stays(own.rest, room) == {"sam": (None, None)}
    make_chore_due(own.database, "webhook")
    eventually(lambda: is_right(own))
    eventually(lambda: stays(own.rest, room)["sam"][1])

    enter(own.rest, own.daily, room, "eve")
    eventually(lambda: stays(own.rest, room)["eve"][0])


def test_our_webhook_at_another_url_is_made_anew_where_the_domain_takes_two(own: Own) -> None:
    own.daily.settings(max_webhooks=2)
    own.daily.put_webhook(uuid(own), url="http://127.0.0.1:9/elsewhere")
    make_chore_due(own.database, "webhook")
    eventually(lambda: is_right(own))


def test_another_application_s_webhook_is_left_alone_and_one_line_in_the_log_tells_of_it(own: Own) -> None:
    own.daily.delete_webhook(uuid(own))
    theirs = own.daily.others(webhook="http://127.0.0.1:9/theirs", recording=False)["webhook"]
    before = [one for one in own.daily.state()["webhooks"] if one["uuid"] == theirs]
    logged = len(warnings(own.stack))
    make_chore_due(own.database, "webhook")
    told = "Daily does not take our webhook"
    line = eventually(lambda: [one for one in warnings(own.stack)[logged:] if told in one])[0]
    assert "http://127.0.0.1:9/theirs" in line
    after = [one for one in own.daily.state()["webhooks"] if one["uuid"] == theirs]
    assert [(one["url"], one["eventTypes"], one["hmac"]) for one in after] == [
        (one["url"], one["eventTypes"], one["hmac"]) for one in before
    ]
    assert [one["url"] for one in own.daily.state()["webhooks"]] == ["http://127.0.0.1:9/theirs"]


def test_ours_is_put_right_beside_another_application_s(own: Own) -> None:
    theirs = own.daily.others(webhook="http://127.0.0.1:9/theirs", recording=False)["webhook"]
    own.daily.put_webhook(uuid(own), state="FAILED")
    make_chore_due(own.database, "webhook")
    eventually(lambda: is_right(own))
    assert {one["uuid"] for one in own.daily.state()["webhooks"]} == {theirs, uuid(own)}


def test_a_webhook_that_is_right_is_left_as_it_is(own: Own) -> None:
    before, looks, saves = ours(own), own.daily.calls("GET /webhooks"), own.daily.calls("POST /webhooks/:uuid")
    make_chore_due(own.database, "webhook")
    eventually(lambda: own.daily.calls("GET /webhooks") > looks)
    assert own.daily.calls("POST /webhooks/:uuid") == saves
    assert ours(own)["updatedAt"] == before["updatedAt"]
