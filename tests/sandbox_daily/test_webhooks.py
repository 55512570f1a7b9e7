"""The stand-in's webhooks: kept, pinged, and broken by failures."""

import uuid
from typing import Any

import pytest

from sandbox.daily.delivery import signature
from tests.clients import eventually
from tests.sandbox_daily.stand_in import SECRET, Daily, Receiver, is_error, types


def test_the_signature_is_the_documented_one() -> None:
    body = (
        b'{"version":"1.0.0","type":"meeting.started",'
        b'"id":"met-sta-f2aa1ade-ff80-464c-b46e-50ffa577d48d-1708526032",'
        b'"payload":{"start_ts":1708526032.672,"meeting_id":"f2aa1ade-ff80-464c-b46e-50ffa577d48d",'
        b'"room":"TrPmUX1DzjSwDaAFDfNj"},"event_ts":1708526033.049}'
    )
    assert signature(SECRET, "1708526033", body) == "h5z+DQ84rH6/thgIpYgy+cu/hBMiHqSj//JJQz0Pj4c="


def test_a_webhook_is_created_after_a_test_ping_and_only_once(daily: Daily, receiver: Receiver) -> None:
    webhook = daily.api.post("/webhooks", json={"url": receiver.url}).json()
    assert receiver.got.get(timeout=5)[1] == b'{"test":"test"}'
    assert (webhook["state"], webhook["failedCount"], webhook["retryType"]) == (
        "ACTIVE",
        0,
        "circuit-breaker",
    )
    assert set(webhook) - {"state", "failedCount", "retryType"} == {
        *("uuid", "url", "hmac", "lastMomentPushed", "domainId", "createdAt", "updatedAt", "eventTypes")
    }
    assert daily.api.get("/webhooks").json() == [webhook]
    assert daily.api.get(f"/webhooks/{webhook['uuid']}").json() == webhook
    second = daily.api.post("/webhooks", json={"url": receiver.url})
    assert is_error(second, 400, "invalid-request-error", "already has a webhook")
    assert daily.api.delete(f"/webhooks/{webhook['uuid']}").status_code == 200
    assert daily.api.get(f"/webhooks/{webhook['uuid']}").status_code == 404


def test_a_webhook_that_does_not_answer_200_is_refused(daily: Daily, receiver: Receiver) -> None:
    receiver.status = 401
    for url in (receiver.url, "http://127.0.0.1:1/nothing"):
        answer = daily.api.post("/webhooks", json={"url": url})
        assert is_error(answer, 400, "invalid-request-error", "non-200")
    assert daily.api.get("/webhooks").json() == []
    assert is_error(daily.api.post("/webhooks", json={}), 400, "invalid-request-error", "url is required")


def test_only_the_chosen_event_types_are_delivered(daily: Daily, receiver: Receiver) -> None:
    body = {"url": receiver.url, "eventTypes": ["participant.left"]}
    daily.api.post("/webhooks", json=body).raise_for_status()
    receiver.got.get(timeout=5)
    room = daily.room()
    daily.leave(room, daily.entered(room))
    assert types(receiver.events(1)) == ["participant.left"]


def test_three_failures_break_the_circuit_until_the_webhook_is_updated(daily: Daily, hook: Receiver) -> None:
    uuid_ = daily.state()["webhook"]["uuid"]
    room = daily.room()
    hook.status = 500
    sessions = [daily.entered(room) for _ in range(4)]  # five events, with meeting.started
    hook.events(3)
    failed = eventually(lambda: (w := daily.state()["webhook"])["state"] == "FAILED" and w)
    assert failed["failedCount"] == 3
    eventually(lambda: [d["status"] for d in daily.state()["deliveries"]][-2:] == ["not sent"] * 2)
    assert is_error(daily.api.post(f"/webhooks/{uuid_}"), 400, "invalid-request-error", "non-200")
    hook.status = 200
    webhook = daily.api.post(f"/webhooks/{uuid_}").json()
    assert (webhook["state"], webhook["failedCount"]) == ("ACTIVE", 0)
    for _ in range(2):
        assert hook.got.get(timeout=5)[1] == b'{"test":"test"}'
    daily.leave(room, sessions[0])
    assert types(hook.events(1)) == ["participant.left"]


def test_a_success_between_failures_keeps_the_circuit_closed(daily: Daily, hook: Receiver) -> None:
    for status in (500, 500, 200, 500):
        hook.status = status
        deliveries = len(daily.state()["deliveries"])
        daily.record(daily.room(), instanceId=str(uuid.uuid4()))
        eventually(lambda before=deliveries: len(daily.state()["deliveries"]) > before)
    webhook = daily.state()["webhook"]
    assert (webhook["state"], webhook["failedCount"]) == ("ACTIVE", 1)


def test_the_ping_is_signed(daily: Daily, receiver: Receiver) -> None:
    daily.api.post("/webhooks", json={"url": receiver.url, "hmac": SECRET}).raise_for_status()
    headers, body = receiver.got.get(timeout=5)
    assert headers["x-webhook-signature"] == signature(SECRET, headers["x-webhook-timestamp"], body)


def test_a_domain_with_several_webhooks_delivers_to_each_whatever_becomes_of_the_others(
    daily: Daily, hook: Receiver, new_receiver: Any
) -> None:
    daily.settings(max_webhooks=2)
    other = new_receiver()
    first = daily.state()["webhook"]["uuid"]
    second = daily.api.post("/webhooks", json={"url": other.url, "eventTypes": ["participant.joined"]}).json()["uuid"]
    other.got.get(timeout=5)
    assert [one["uuid"] for one in daily.api.get("/webhooks").json()] == [first, second]
    third = daily.api.post("/webhooks", json={"url": other.url})
    assert is_error(third, 400, "invalid-request-error", "already has a webhook")
    other.status = 500
    room = daily.room()
    for _ in range(3):
        daily.entered(room)
    assert types(hook.events(4)) == ["meeting.started", *["participant.joined"] * 3]
    assert types(other.events(3)) == ["participant.joined"] * 3
    states = lambda: [(one["state"], one["failedCount"]) for one in daily.state()["webhooks"]]  # noqa: E731
    eventually(lambda: states() == [("ACTIVE", 0), ("FAILED", 3)])


@pytest.mark.parametrize("state", ["FAILED", "INACTIVE"])
def test_a_webhook_that_was_put_out_of_action_is_sent_nothing_until_it_is_updated(
    daily: Daily, hook: Receiver, state: str
) -> None:
    uuid_ = daily.state()["webhook"]["uuid"]
    daily.put_webhook(uuid_, state=state)
    assert daily.api.get(f"/webhooks/{uuid_}").json()["state"] == state
    room = daily.room()
    session = daily.entered(room)
    eventually(lambda: [one["status"] for one in daily.of_room(room)["deliveries"]] == ["not sent"] * 2)
    daily.api.post(f"/webhooks/{uuid_}").raise_for_status()
    assert hook.got.get(timeout=5)[1] == b'{"test":"test"}'
    daily.leave(room, session)
    assert types(hook.events(1)) == ["participant.left"]


def test_a_webhook_can_be_changed_and_deleted_behind_the_service_s_back(daily: Daily, hook: Receiver) -> None:
    uuid_ = daily.state()["webhook"]["uuid"]
    daily.put_webhook(uuid_, url="http://127.0.0.1:1/elsewhere", eventTypes=["meeting.ended"])
    (webhook,) = daily.api.get("/webhooks").json()
    assert (webhook["url"], webhook["eventTypes"]) == ("http://127.0.0.1:1/elsewhere", ["meeting.ended"])
    daily.delete_webhook(uuid_)
    assert daily.api.get("/webhooks").json() == []
    assert daily.state()["webhook"] is None
    assert hook.got.empty()
