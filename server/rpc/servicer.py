"""The RPCs: convert, call the use case, convert. What each one promises stands in service.proto."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from google.api.httpbody_pb2 import HttpBody
from grpc.aio import ServicerContext

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer
from server.caller import caller, known_caller
from server.rpc import convert, paging, spreadsheet
from server.usecases import moderation, participants, recordings, report, room_events, sessions
from server.usecases.service import Service
from server.usecases.watching import Watching
from storage.model import Of, SessionRow

Context = ServicerContext[Any, Any]
PART = 1500
"""Sessions that are read and converted at a stretch: some 15 ms."""


class Servicer(LiveSessionsServicer):
    def __init__(self, service: Service, watching: Watching, webhook_secret: str | None, max_participants: int) -> None:
        self._service = service
        self._watching = watching
        self._webhook_secret = webhook_secret
        self._max_participants = max_participants
        self._long_lists = asyncio.Lock()

    async def CreateLiveSession(self, request: rpc.CreateLiveSessionRequest, context: Context) -> pb.LiveSession:
        new = convert.new_session(request, self._max_participants)
        key = convert.idempotency_key(_metadata(context).get("idempotency-key"))
        return convert.session(await sessions.create(self._service, caller(), new, key))

    async def GetLiveSession(self, request: rpc.GetLiveSessionRequest, context: Context) -> pb.LiveSession:
        name = convert.session_name(request.session_name)
        return convert.session_row(await sessions.get(self._service, name))

    async def DeleteLiveSession(self, request: rpc.DeleteLiveSessionRequest, context: Context) -> pb.LiveSession:
        name = convert.session_name(request.session_name)
        return convert.session(await sessions.delete(self._service, caller(), name))

    async def UpdateLiveSession(self, request: rpc.UpdateLiveSessionRequest, context: Context) -> pb.LiveSession:
        name = convert.session_name(request.session_name)
        changes = convert.session_changes(request, self._max_participants)
        return convert.session(await sessions.update(self._service, caller(), name, changes))

    async def StartSessionRecording(
        self, request: rpc.StartSessionRecordingRequest, context: Context
    ) -> rpc.StartSessionRecordingResponse:
        name = convert.session_name(request.session_name)
        return convert.started(await recordings.start(self._service, caller(), name))

    async def StopSessionRecording(
        self, request: rpc.StopSessionRecordingRequest, context: Context
    ) -> rpc.StopSessionRecordingResponse:
        name = convert.session_name(request.session_name)
        return convert.stopped(await recordings.stop(self._service, caller(), name))

    async def GetSessionRecording(
        self, request: rpc.GetSessionRecordingRequest, context: Context
    ) -> rpc.GetSessionRecordingResponse:
        name = convert.session_name(request.session_name)
        return convert.playback(await recordings.get(self._service, caller(), name))

    async def GetSessionToken(
        self, request: rpc.GetSessionTokenRequest, context: Context
    ) -> rpc.GetSessionTokenResponse:
        name = convert.session_name(request.session_name)
        token = await participants.issue_token(self._service, caller(), name)
        return rpc.GetSessionTokenResponse(token=token)

    async def GetInstructorLiveSessions(
        self, request: rpc.GetInstructorLiveSessionsRequest, context: Context
    ) -> rpc.GetInstructorLiveSessionsResponse:
        instructor = convert.instructor_id(request.instructor_id)
        return await self._sessions(request, Of.INSTRUCTOR, instructor, rpc.GetInstructorLiveSessionsResponse())

    async def GetCourseLiveSessions(
        self, request: rpc.GetCourseLiveSessionsRequest, context: Context
    ) -> rpc.GetCourseLiveSessionsResponse:
        course = convert.course_id(request.course_id)
        return await self._sessions(request, Of.COURSE, course, rpc.GetCourseLiveSessionsResponse())

    async def _sessions(self, request: Any, of: Of, id: str, answer: convert.SessionList) -> convert.SessionList:
        status = convert.status(request.status)
        page = paging.page(request, scope=id if status is None else f"{status} {id}")
        read = partial(sessions.list_of, self._service, of, id, status)
        if page.size is None:
            await self._add_all(answer, read)
        else:
            rows, answer.next_page_token = page.cut(await read(page.limit, page.after), _starts_at)
            convert.add_sessions(answer, rows)
        return answer

    async def _add_all(
        self,
        answer: convert.SessionList,
        read: Callable[[int, paging.Cursor | None], Awaitable[list[SessionRow]]],
    ) -> None:
        """In parts, between which other calls have their turn; of long lists, one is made at a time. Who waits for that
        holds nothing: a long list's first part is read once more."""
        rows = await read(PART, None)
        if len(rows) < PART:
            convert.add_sessions(answer, rows)
            return
        del rows
        after: paging.Cursor | None = None
        async with self._long_lists:
            while rows := await read(PART, after):
                convert.add_sessions(answer, rows)
                if len(rows) < PART:
                    break
                after = _starts_at(rows[-1]), UUID(rows[-1].id)

    async def ListSessionParticipants(
        self, request: rpc.ListSessionParticipantsRequest, context: Context
    ) -> rpc.ListSessionParticipantsResponse:
        name = convert.session_name(request.session_name)
        page = paging.page(request, scope=name)
        found = await participants.of_session(self._service, caller(), name, page.limit, page.after)
        rows, token = page.cut(found, lambda participant: participant.created_at)
        return rpc.ListSessionParticipantsResponse(participants=map(convert.participant, rows), next_page_token=token)

    async def ListSessionRecordings(
        self, request: rpc.ListSessionRecordingsRequest, context: Context
    ) -> rpc.ListSessionRecordingsResponse:
        name = convert.session_name(request.session_name)
        found = await recordings.of_session(self._service, caller(), name)
        return rpc.ListSessionRecordingsResponse(recordings=map(convert.recording, found))

    async def UpdateSessionParticipant(
        self, request: rpc.UpdateSessionParticipantRequest, context: Context
    ) -> pb.SessionParticipant:
        name, user = convert.session_name(request.session_name), convert.user_id(request.user_id)
        mic, camera = convert.permissions(request)
        return convert.participant(await moderation.permit(self._service, caller(), name, user, mic, camera))

    async def MuteSessionParticipants(
        self, request: rpc.MuteSessionParticipantsRequest, context: Context
    ) -> rpc.MuteSessionParticipantsResponse:
        name = convert.session_name(request.session_name)
        muted = await moderation.mute(self._service, caller(), name)
        return rpc.MuteSessionParticipantsResponse(participants=map(convert.participant, muted))

    async def RemoveSessionParticipant(
        self, request: rpc.RemoveSessionParticipantRequest, context: Context
    ) -> pb.SessionParticipant:
        name, user = convert.session_name(request.session_name), convert.user_id(request.user_id)
        return convert.participant(await moderation.remove(self._service, caller(), name, user))

    async def ReadmitSessionParticipant(
        self, request: rpc.ReadmitSessionParticipantRequest, context: Context
    ) -> pb.SessionParticipant:
        name, user = convert.session_name(request.session_name), convert.user_id(request.user_id)
        return convert.participant(await moderation.readmit(self._service, caller(), name, user))

    async def GetSessionAttendance(
        self, request: rpc.GetSessionAttendanceRequest, context: Context
    ) -> rpc.GetSessionAttendanceResponse:
        name = convert.session_name(request.session_name)
        page = paging.page(request, scope=name)
        found = await report.attendance(self._service, caller(), name, page.limit, page.after)
        rows, token = page.cut(found, lambda attendance: attendance.created_at)
        return rpc.GetSessionAttendanceResponse(attendance=map(convert.attendance, rows), next_page_token=token)

    async def ExportSessionAttendance(self, request: rpc.ExportSessionAttendanceRequest, context: Context) -> HttpBody:
        name = convert.session_name(request.session_name)
        table = await spreadsheet.attendance(report.all_attendance(self._service, caller(), name))
        return HttpBody(content_type=spreadsheet.CONTENT_TYPE, data=table)

    def WatchLiveSession(  # type: ignore[override]  # the messages' bytes: many are sent the same
        self, request: rpc.WatchLiveSessionRequest, context: Context
    ) -> AsyncIterator[bytes]:
        name, after = convert.session_name(request.session_name), convert.after_revision(request.after_revision)
        return self._watching.watch(known_caller(), name, after)

    async def ReceiveDailyWebhook(
        self, request: rpc.ReceiveDailyWebhookRequest, context: Context
    ) -> rpc.ReceiveDailyWebhookResponse:
        metadata = _metadata(context)
        signature = metadata.get("x-webhook-signature", "")
        timestamp = metadata.get("x-webhook-timestamp", "")
        await room_events.receive(self._service, self._webhook_secret, signature, timestamp, request.body.data)
        return rpc.ReceiveDailyWebhookResponse()


def _starts_at(row: SessionRow) -> datetime:
    return convert.time(row.starts_at)


def _metadata(context: Context) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or ()}
