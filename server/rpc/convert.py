"""Between protobuf and the nouns, and the checks of what comes in. Field names in messages are those of REST."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from live_sessions.v1 import resources_pb2 as pb
from live_sessions.v1 import service_pb2 as rpc
from server.errors import InvalidArgument
from server.usecases.recordings import Playback
from server.usecases.report import Attendance
from storage.model import NewSession, Participant, Recording, Session, SessionChanges, SessionRow, SessionStatus

SessionList = TypeVar("SessionList", rpc.GetInstructorLiveSessionsResponse, rpc.GetCourseLiveSessionsResponse)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_TIME = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
MAX_TIME = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
MAX_ID = 128
ROOM_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
KEY = re.compile(r"[!-~]{1,128}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


# What comes in


def new_session(request: rpc.CreateLiveSessionRequest, max_participants: int) -> NewSession:
    """`max_participants` are as many as Daily lets into a room."""
    missing = [
        name
        for name, given in (
            ("courseId", request.course_id.strip()),
            ("startsAt", request.HasField("starts_at")),
        )
        if not given
    ]
    if missing:
        raise InvalidArgument("courseId and startsAt are required", *missing)
    return NewSession(
        course_id=_id(request.course_id, "courseId"),
        starts_at=_starts_at(request.starts_at),
        recording_enabled=request.recording_enabled,
        max_participants=_max_participants(request, max_participants),
    )


def session_changes(request: rpc.UpdateLiveSessionRequest, max_participants: int) -> SessionChanges:
    given = _given(request, "course_id", "starts_at", "recording_enabled", "max_participants")
    if "course_id" in given and not request.course_id.strip():
        raise InvalidArgument("courseId must not be blank", "courseId")
    return SessionChanges(
        course_id=_id(request.course_id, "courseId") if "course_id" in given else None,
        starts_at=_starts_at(request.starts_at) if "starts_at" in given else None,
        recording_enabled=request.recording_enabled if "recording_enabled" in given else None,
        max_participants=_new_limit(request, max_participants) if "max_participants" in given else None,
    )


def permissions(request: rpc.UpdateSessionParticipantRequest) -> tuple[bool | None, bool | None]:
    """Of the microphone and of the camera; None is left as it is."""
    given = _given(request, "mic_allowed", "camera_allowed")
    return (
        request.mic_allowed if "mic_allowed" in given else None,
        request.camera_allowed if "camera_allowed" in given else None,
    )


def _given(request: Message, *names: str) -> set[str]:
    """Those of these optional fields that are given, which is at least one."""
    given = {name for name in names if request.HasField(name)}
    if not given:
        written = [request.DESCRIPTOR.fields_by_name[name].json_name for name in names]
        raise InvalidArgument(f"{', '.join(written[:-1])} or {written[-1]} is required", *written)
    return given


def _new_limit(request: rpc.UpdateLiveSessionRequest, most: int) -> int:
    if not 0 <= request.max_participants <= most:
        raise InvalidArgument(f"maxParticipants must be between 1 and {most}, or 0 for no limit", "maxParticipants")
    return request.max_participants


def status(number: int) -> SessionStatus | None:
    """None where none is asked for."""
    try:
        return SessionStatus(pb.LiveSession.Status.Name(number)) if number else None
    except ValueError:
        raise InvalidArgument("status must be scheduled, live or ended", "status") from None


def session_name(name: str) -> str:
    if not ROOM_NAME.fullmatch(name):
        raise InvalidArgument("sessionName must be 1 to 128 letters, digits, - or _", "sessionName")
    return name


def instructor_id(id: str) -> str:
    return _id(id, "instructorId")


def course_id(id: str) -> str:
    return _id(id, "courseId")


def user_id(id: str) -> str:
    return _id(id, "userId")


def after_revision(revision: int) -> int:
    if revision < 0:
        raise InvalidArgument("afterRevision must be at least 0", "afterRevision")
    return revision


def idempotency_key(key: str | None) -> str | None:
    if key is not None and not KEY.fullmatch(key):
        raise InvalidArgument("Idempotency-Key must be 1 to 128 visible ASCII characters", "Idempotency-Key")
    return key


def _id(value: str, field: str) -> str:
    if not 0 < len(value) <= MAX_ID or CONTROL.search(value):
        raise InvalidArgument(f"{field} must be 1 to {MAX_ID} characters without control characters", field)
    return value


def _starts_at(time: Timestamp) -> datetime:
    if not 0 <= time.nanos < 1_000_000_000:
        raise InvalidArgument("startsAt must have from 0 to 999999999 nanos", "startsAt")
    if not MIN_TIME <= time.seconds < MAX_TIME:
        raise InvalidArgument("startsAt must lie between the years 2000 and 9999", "startsAt")
    return EPOCH + timedelta(seconds=time.seconds, milliseconds=time.nanos // 1_000_000)


def _max_participants(request: rpc.CreateLiveSessionRequest, most: int) -> int | None:
    if not request.HasField("max_participants"):
        return None
    if not 1 <= request.max_participants <= most:
        raise InvalidArgument(f"maxParticipants must be between 1 and {most}", "maxParticipants")
    return request.max_participants


# What goes out


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    since = time - EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def session(session: Session) -> pb.LiveSession:
    return pb.LiveSession(
        id=str(session.id),
        course_id=session.course_id,
        room_name=session.room_name,
        status=session.status,
        starts_at=timestamp(session.starts_at),
        ends_at=timestamp(session.ends_at),
        created_by=session.created_by,
        recording_enabled=session.recording_enabled,
        max_participants=session.max_participants,
        created_at=timestamp(session.created_at),
        updated_at=timestamp(session.updated_at),
    )


def session_row(row: SessionRow) -> pb.LiveSession:
    return _fill(pb.LiveSession(), row)


def add_sessions(answer: SessionList, rows: Sequence[SessionRow]) -> None:
    """Made inside the one message: a thousand sessions cost half of what they cost one by one."""
    add = answer.sessions.add
    for row in rows:
        _fill(add(), row)


def _fill(message: pb.LiveSession, row: SessionRow) -> pb.LiveSession:
    (
        message.id,
        message.course_id,
        message.room_name,
        status,
        starts_at,
        ends_at,
        message.created_by,
        message.recording_enabled,
        max_participants,
        created_at,
        updated_at,
    ) = row
    message.status = status  # type: ignore[assignment]  # protobuf takes a value's name
    if max_participants is not None:
        message.max_participants = max_participants
    _set(message.starts_at, starts_at)
    if ends_at is not None:
        _set(message.ends_at, ends_at)
    _set(message.created_at, created_at)
    _set(message.updated_at, updated_at)
    return message


def time(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def _set(time: Timestamp, milliseconds: int) -> None:
    time.seconds = milliseconds // 1000
    if rest := milliseconds % 1000:
        time.nanos = rest * 1_000_000


def participant(participant: Participant) -> pb.SessionParticipant:
    return pb.SessionParticipant(
        id=str(participant.id),
        user_id=participant.user_id,
        session_id=str(participant.session_id),
        role=participant.role,
        joined_at=timestamp(participant.joined_at),
        left_at=timestamp(participant.left_at),
        was_kicked=participant.was_kicked,
        mic_allowed=participant.mic_allowed,
        camera_allowed=participant.camera_allowed,
        created_at=timestamp(participant.created_at),
        updated_at=timestamp(participant.updated_at),
    )


def attendance(attendance: Attendance) -> pb.Attendance:
    stays = attendance.stays
    return pb.Attendance(
        user_id=attendance.user_id,
        name=attendance.name,
        role=attendance.role,
        joined_at=timestamp(attendance.joined_at),
        left_at=timestamp(attendance.left_at),
        duration=attendance.duration,
        share=attendance.share,
        stays=[pb.Attendance.Stay(joined_at=timestamp(joined), left_at=timestamp(left)) for joined, left in stays],
    )


def recording(recording: Recording) -> pb.Recording:
    return pb.Recording(
        id=str(recording.id),
        session_id=str(recording.session_id),
        recording_id=recording.recording_id or "",
        s3_key=recording.s3_key,
        duration=recording.duration,
        status=recording.status,
        created_at=timestamp(recording.created_at),
        updated_at=timestamp(recording.updated_at),
        failure_reason=recording.failure_reason,
    )


def started(recording: Recording) -> rpc.StartSessionRecordingResponse:
    return rpc.StartSessionRecordingResponse(
        recording_id=recording.recording_id, started_at=timestamp(recording.started_at)
    )


def stopped(recording: Recording) -> rpc.StopSessionRecordingResponse:
    return rpc.StopSessionRecordingResponse(
        recording_id=recording.recording_id,
        stopped_at=timestamp(recording.stopped_at),
        duration=recording.duration or 0,
    )


def playback(playback: Playback) -> rpc.GetSessionRecordingResponse:
    recording, link = playback.recording, playback.link
    access_link = rpc.GetSessionRecordingResponse.AccessLink
    return rpc.GetSessionRecordingResponse(
        recording_id=recording.recording_id,
        started_at=timestamp(recording.started_at),
        stopped_at=timestamp(recording.stopped_at),
        duration=recording.duration,
        status=playback.status,
        download_link=None if link is None else link.url,
        access_link=None if link is None else access_link(url=link.url, expires_at=timestamp(link.expires_at)),
    )


def event(revision: int, at: datetime, noun: SessionRow | Participant | Recording | None) -> bytes:
    """A message as it goes to many; without a noun a heartbeat."""
    message = pb.LiveSessionEvent(
        revision=revision, at=timestamp(at.replace(microsecond=at.microsecond // 1000 * 1000))
    )
    if noun is None:
        message.heartbeat.SetInParent()
    elif isinstance(noun, Participant):
        message.participant.CopyFrom(participant(noun))
    elif isinstance(noun, Recording):
        message.recording.CopyFrom(recording(noun))
    else:
        message.session.CopyFrom(session_row(noun))
    return message.SerializeToString()
