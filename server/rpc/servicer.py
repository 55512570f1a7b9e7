"""The RPCs: convert, call the use case, convert. What each one promises stands in service.proto."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

from grpc.aio import ServicerContext

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from live_sessions.v1.service_pb2_grpc import LiveSessionsServicer
from server.caller import caller
from server.rpc import convert, paging
from server.usecases import participants, recordings, room_events, sessions
from server.usecases.service import Service

Context = ServicerContext[Any, Any]
PART = 1500
"""Sessions that are read and converted at a stretch: some 15 ms."""


class Servicer(LiveSessionsServicer):
    def __init__(self, service: Service, webhook_secret: str | None, max_participants: int) -> None:
        self._service = service
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
        page = paging.page(request, scope=instructor)
        if page.size is None:
            return await self._all_sessions(instructor)
        found = await sessions.of_instructor(self._service, instructor, page.limit, page.after)
        rows, token = page.cut(found, lambda session: convert.time(session.starts_at))
        answer = rpc.GetInstructorLiveSessionsResponse(next_page_token=token)
        convert.add_sessions(answer, rows)
        return answer

    async def _all_sessions(self, instructor: str) -> rpc.GetInstructorLiveSessionsResponse:
        """In parts, between which other calls have their turn; of long lists, one is made at a time."""
        answer, after = rpc.GetInstructorLiveSessionsResponse(), None
        async with AsyncExitStack() as turn:
            while rows := await sessions.of_instructor(self._service, instructor, PART, after):
                convert.add_sessions(answer, rows)
                if len(rows) < PART:
                    break
                if after is None:
                    await turn.enter_async_context(self._long_lists)
                after = convert.time(rows[-1].starts_at), UUID(rows[-1].id)
        return answer

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

    async def ReceiveDailyWebhook(
        self, request: rpc.ReceiveDailyWebhookRequest, context: Context
    ) -> rpc.ReceiveDailyWebhookResponse:
        metadata = _metadata(context)
        signature = metadata.get("x-webhook-signature", "")
        timestamp = metadata.get("x-webhook-timestamp", "")
        await room_events.receive(self._service, self._webhook_secret, signature, timestamp, request.body.data)
        return rpc.ReceiveDailyWebhookResponse()


def _metadata(context: Context) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or ()}
