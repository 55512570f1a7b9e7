"""What Daily will not do is refused in words that tell whether to try again."""

import grpc
import pytest

from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from tests.clients import EXAMPLE, DailyControl, Rest, bearer


def test_more_people_than_daily_s_plan_allows_are_refused_in_words(rest: Rest) -> None:
    answer = rest.call("POST", "/sessions", "ada", json=EXAMPLE | {"maxParticipants": 201})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert "200" in answer.json()["error"]
    assert rest.create(maxParticipants=200)["maxParticipants"] == 200


def test_a_refusal_of_daily_that_is_final_does_not_ask_to_try_again(
    rest: Rest, daily: DailyControl, stub: LiveSessionsStub
) -> None:
    daily.settings(max_participants_of_plan=100)
    request = rpc.CreateLiveSessionRequest(course_id="c", max_participants=150)
    request.starts_at.FromJsonString(EXAMPLE["startsAt"])
    with pytest.raises(grpc.RpcError) as failed:
        stub.CreateLiveSession(request, metadata=bearer(rest.token("ada")), timeout=8)
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert failed.value.details() == "Failed to create session room"
