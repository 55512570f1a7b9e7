"""What was told of a session, beside what its calls say of it."""

from typing import Any

import grpc
import psycopg

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsStub
from sandbox.stack import Stack
from server.rpc import convert
from storage.events import session_event
from storage.model import Participant, Recording, SessionEvent, SessionRow
from tests.clients import bearer, eventually

Message = pb.LiveSession | pb.SessionParticipant | pb.Recording
EVENTS = "SELECT session_id, revision, at, type, state FROM session_events WHERE session_id = %s ORDER BY revision"


class Told:
    def __init__(self, stack: Stack, database: psycopg.Connection, room: str, instructor: str) -> None:
        self.room = room
        self._database = database
        self._stack = stack
        self._me = bearer(stack.token(id=instructor, name=instructor, role="instructor"))

    def events(self) -> list[SessionEvent]:
        """All of the session, of which each has the next revision."""
        [row] = self._database.execute("SELECT id, revision FROM sessions WHERE room_name = %s", [self.room])
        events = [session_event(*event) for event in self._database.execute(EVENTS, [row[0]])]
        revisions = [event.revision for event in events]
        assert revisions[: row[1]] == list(range(1, row[1] + 1))
        return events

    def types(self) -> list[str]:
        return [event.type for event in self.events()]

    def types_but_corrections(self) -> list[str]:
        """Without those that say more exactly when somebody left, who was put out by us before Daily told it."""
        return [type for type in self.types() if type != "participant.updated"]

    def come(self, *types: str) -> None:
        """Exactly these are told, in this order, and in the end each thing is as it was told last."""
        eventually(lambda: len(self.types()) >= len(types))
        self.agree()
        assert self.types() == list(types)

    def agree(self) -> None:
        eventually(lambda: self.latest() == self.present())

    def latest(self) -> dict[str, Message]:
        """Each thing by its id, as it was told last."""
        told = [message(event.state) for event in self.events()]
        return {one.id: one for one in told}

    def present(self) -> dict[str, Message]:
        """Each by its id, as the calls show it: people who were in the room or may not do everything; recordings that
        Daily has run, or that failed."""
        with grpc.insecure_channel(self._stack.grpc_targets[0]) as channel:
            stub, me = LiveSessionsStub(channel), {"metadata": self._me}
            session = stub.GetLiveSession(rpc.GetLiveSessionRequest(session_name=self.room))
            people = stub.ListSessionParticipants(rpc.ListSessionParticipantsRequest(session_name=self.room), **me)
            recordings = stub.ListSessionRecordings(rpc.ListSessionRecordingsRequest(session_name=self.room), **me)
        there = [
            one for one in people.participants if one.HasField("joined_at") or one.was_kicked or not one.mic_allowed
        ]
        run = [one for one in recordings.recordings if one.recording_id or one.status == pb.Recording.failed]
        for one in run:
            one.ClearField("s3_key")
        return {one.id: one for one in (session, *there, *run)}


def message(state: SessionRow | Participant | Recording) -> Any:
    match state:
        case SessionRow():
            return convert.session_row(state)
        case Participant():
            return convert.participant(state)
        case Recording():
            return convert.recording(state)
