"""docs/openapi.yaml: it names what the protos name, and Envoy answers as it says, to good requests and bad ones.

Schemathesis makes the requests out of the document: some hundreds, the same ones in each run of the same code.
"""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import schemathesis
import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from hypothesis import HealthCheck, Phase, settings
from schemathesis import APIOperation, Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from live_sessions.v1 import resources_pb2, service_pb2
from sandbox.stack import Stack
from server.rpc.methods import METHODS, Access
from tests.clients import EXAMPLE, DailyControl, Rest, eventually
from tests.watchers import events

DOCUMENT = yaml.safe_load((Path(__file__).parent.parent / "docs" / "openapi.yaml").read_text())
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation | {"method": method.upper(), "path": path}
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
RPCS = service_pb2.DESCRIPTOR.services_by_name["LiveSessions"].methods
MESSAGES = [
    message
    for file in (resources_pb2, service_pb2)
    for outer in file.DESCRIPTOR.message_types_by_name.values()
    for message in (outer, *outer.nested_types)
    if message.name in DOCUMENT["components"]["schemas"]
]
ME, SAM = "openapi-ada", "openapi-sam"
LIMIT_OF_THE_PLAN = 200
# What fits the document, and is refused for what was before.
STATEFUL = (
    "Idempotency-Key was used before with another request",
    "pageToken needs a pageSize",
    "pageToken is not one that we gave",
)


# The document and the protos


def binding(rpc: MethodDescriptor) -> tuple[str, str]:
    """Its method and path in REST, with the parameters' names as JSON has them."""
    rule = rpc.GetOptions().Extensions[annotations_pb2.http]
    method = rule.WhichOneof("pattern")
    names = {field.name: field.json_name for field in rpc.input_type.fields}
    return method.upper(), re.sub(r"{(\w+)}", lambda found: f"{{{names[found[1]]}}}", getattr(rule, method))


def test_it_names_exactly_the_rpcs_by_their_methods_and_paths() -> None:
    documented = {name: (operation["method"], operation["path"]) for name, operation in OPERATIONS.items()}
    assert documented == {rpc.name: binding(rpc) for rpc in RPCS}


def fields(message: Descriptor) -> set[str]:
    return {field.json_name for field in message.fields}


def named(part: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` to a component stands for, or the part itself."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return dict(DOCUMENT["components"][kind][name])


def asked(operation: dict[str, Any]) -> set[str]:
    """What a caller may give: in the path, the query and the body, by the names in JSON."""
    listed = operation.get("parameters", []) + DOCUMENT["paths"][operation["path"]].get("parameters", [])
    names = [each["name"] for each in map(named, listed) if each["in"] in ("path", "query")]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    in_json = {re.sub(r"_(\w)", lambda letter: letter[1].upper(), name) for name in names}
    return in_json | named(body).get("properties", {}).keys()


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc.name != "ReceiveDailyWebhook"], ids=lambda rpc: rpc.name)
def test_a_caller_may_give_what_the_rpcs_request_has(rpc: MethodDescriptor) -> None:
    assert asked(OPERATIONS[rpc.name]) == fields(rpc.input_type)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_resource_has_the_fields_of_its_message(message: Descriptor) -> None:
    assert DOCUMENT["components"]["schemas"][message.name]["properties"].keys() == fields(message)


@pytest.mark.parametrize("name", METHODS)
def test_it_says_who_needs_a_token_and_what_a_failure_is_called(name: str) -> None:
    operation, method = OPERATIONS[name], METHODS[name]
    needed = {Access.PUBLIC: [], Access.DAILY: [], Access.OPTIONAL: [{}, {"caller": []}]}
    assert operation.get("security") == needed.get(method.access)
    assert f'500 "{method.failure}"' in operation["description"].replace("\n", " ")


# The document and the answers


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The same with nothing left open: answers have no other fields, the limit is that of the sandbox, and a start is a
    time that there is, as RFC 3339 writes it."""
    closed = deepcopy(document)
    for name, schema in closed["components"]["schemas"].items():
        if "properties" in schema and name != "NewSession":
            schema["additionalProperties"] = False
        if name in ("NewSession", "SessionChanges"):
            schema["properties"]["maxParticipants"]["maximum"] = LIMIT_OF_THE_PLAN
    closed["components"]["schemas"]["Start"] |= {"format": "date-time", "pattern": "^[2-9]"}
    return closed


SCHEMA = schemathesis.openapi.from_dict(strict(DOCUMENT))
# Not QUERY, which Envoy's HTTP/1 does not know: 400.
SCHEMA.config.phases.coverage.unexpected_methods = {"get", "post", "put", "patch", "delete", "trace"}


CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.check
def nothing_fails(context: Any, answer: Response, case: Case) -> None:
    documented = case.operation.label == "GET /sessions/{sessionName}" and answer.json() == "Session not found"
    assert answer.status_code < 500 or documented, "a failure"


@schemathesis.check
def what_fits_is_taken(context: Any, answer: Response, case: Case) -> None:
    """Unless things are not so: 400 with a message alone, or for what came before."""
    if case.meta is None or case.meta.generation.mode.is_negative or answer.status_code != 400:
        return
    body = answer.json()
    assert body.keys() == {"message"} or body["error"] in STATEFUL, "what fits the document was refused"


def verified(case: Case, stack: Stack, token: str) -> Response:
    """The answer to it, which is as the document says."""
    return case.call_and_validate(
        base_url=stack.rest_url,
        headers={"Authorization": f"Bearer {token}"},
        excluded_checks=[not_a_server_error, positive_data_acceptance],
    )


@pytest.fixture
def rooms(rest: Rest, daily: DailyControl) -> list[str]:
    """Sessions of mine: one to come, one that is held and recorded, one that has ended; and somebody else's."""
    to_come, held, ended, foreign = (rest.create(who)["roomName"] for who in (ME, ME, ME, "openapi-eve"))
    tokens = [rest.call("POST", f"/sessions/{room}/token", SAM, "student").json()["token"] for room in (to_come, held)]
    daily.join(held, tokens[1])
    rest.call("POST", f"/sessions/{held}/start-recording", ME)
    rest.call("DELETE", f"/sessions/{ended}", ME)
    return [to_come, held, ended, foreign]


def made_real(case: Case, rooms: list[str]) -> None:
    """Names that fit become those of sessions and people that there are, mostly: nobody guesses them."""
    assert case.meta is not None
    if case.meta.is_negative_at(ParameterLocation.PATH):
        return
    if "/events" in case.path:  # the stream of a session that has not ended does not end
        rooms = rooms[2:3]
    drawn = crc32(repr((case.path_parameters, case.query, case.body)).encode())
    for name, real in (("sessionName", rooms), ("userId", [SAM, SAM, ME])):
        if name in case.path_parameters:
            drawn, choice = divmod(drawn, len(real) + 1)
            case.path_parameters[name] = [*real, case.path_parameters[name]][choice]


@SCHEMA.parametrize()
@settings(
    derandomize=True,
    max_examples=5,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_every_answer_is_one_that_the_document_has(case: Case, stack: Stack, rest: Rest, rooms: list[str]) -> None:
    made_real(case, rooms)
    verified(case, stack, rest.token(ME))


def operation(name: str) -> APIOperation:
    return SCHEMA[OPERATIONS[name]["path"]][OPERATIONS[name]["method"]]


@pytest.mark.parametrize("name", ["CreateLiveSession", "GetLiveSession", "ReceiveDailyWebhook"])
@pytest.mark.parametrize(
    ("size", "status"), [({"data": "x" * 1_100_000}, 413), ({"headers": {"x-large": "x" * 62_000}}, 431)]
)
def test_what_is_too_large_is_refused_as_documented(stack: Stack, name: str, size: dict[str, Any], status: int) -> None:
    case = operation(name).Case(path_parameters={"sessionName": "unique-room-name"})
    answer = case.call(stack.rest_url, **size)
    case.validate_response(answer, checks=CONFORMANCE)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "time",
    ["2026-12-26T15:00Z", "2026-12-26t15:00:00z", "2026-12-26T15:00:00.123456789+0530", "+002026-12-31T24:00-01:00"],
)
def test_a_start_that_is_taken_fits_the_document(rest: Rest, time: str) -> None:
    rest.create(ME, startsAt=time)
    assert re.search(DOCUMENT["components"]["schemas"]["Start"]["pattern"], time)
    assert "format" not in DOCUMENT["components"]["schemas"]["Start"]


def test_a_failure_says_in_its_operations_words_when_to_try_again(
    stack: Stack, rest: Rest, daily: DailyControl
) -> None:
    daily.fault("status", "POST", "/rooms", status=503, times=None)
    case = operation("CreateLiveSession").Case(body=EXAMPLE, media_type="application/json")
    answer = case.call(stack.rest_url, headers={"Authorization": f"Bearer {rest.token(ME)}"})
    case.validate_response(answer, checks=CONFORMANCE)
    assert (answer.status_code, answer.json()) == (500, {"error": METHODS["CreateLiveSession"].failure})
    assert answer.headers["retry-after"] == ["1"]


def test_a_class_from_its_creation_to_its_end_is_answered_as_documented(
    stack: Stack, rest: Rest, daily: DailyControl
) -> None:
    """Every operation, and each does what it is for."""
    ada, sam = rest.token(ME), rest.token(SAM, "student")
    called = set()

    def call(name: str, status: int, token: str = ada, query: Any = None, body: Any = None, **path: str) -> Any:
        content = {} if body is None else {"body": body, "media_type": "application/json"}
        answer = verified(operation(name).Case(path_parameters=path, query=query, **content), stack, token)
        assert answer.status_code == status, answer.text
        called.add(name)
        return answer.json() if answer.headers["content-type"] == ["application/json"] else answer.text

    room = call("CreateLiveSession", 201, body=EXAMPLE)["roomName"]
    me, student = {"sessionName": room}, {"sessionName": room, "userId": SAM}
    call("GetLiveSession", 200, **me)
    call("UpdateLiveSession", 200, body={"maxParticipants": 0}, **me)
    daily.join(room, call("GetSessionToken", 200, sam, **me)["token"])
    eventually(lambda: call("GetSessionAttendance", 200, **me))
    call("UpdateSessionParticipant", 200, body={"micAllowed": True}, **student)
    call("MuteSessionParticipants", 200, **me)
    call("StartSessionRecording", 200, **me)
    assert call("GetSessionRecording", 200, sam, **me)["status"] == "in-progress"
    call("RemoveSessionParticipant", 200, **student)
    call("ReadmitSessionParticipant", 200, **student)
    eventually(lambda: "leftAt" in call("GetSessionAttendance", 200, **me)[0])
    call("StopSessionRecording", 200, **me)
    eventually(lambda: call("GetSessionRecording", 200, **me)["status"] == "finished")
    call("ListSessionRecordings", 200, **me)
    call("ListSessionParticipants", 200, **me)
    call("ExportSessionAttendance", 200, **me)
    call("DeleteLiveSession", 200, **me)
    told = [event for _, event in events(call("WatchLiveSession", 200, query={"after_revision": 1}, **me))]
    assert {kind for event in told for kind in event} == {"revision", "at", "session", "participant", "recording"}
    call("GetInstructorLiveSessions", 200, instructorId=ME)
    call("GetCourseLiveSessions", 200, courseId=EXAMPLE["courseId"])
    call("ReceiveDailyWebhook", 200, body={"test": "test"})
    assert called == OPERATIONS.keys()
