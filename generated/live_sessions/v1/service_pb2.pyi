import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from live_sessions.v1 import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateLiveSessionRequest(_message.Message):
    __slots__ = ("course_id", "starts_at", "recording_enabled", "max_participants")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    STARTS_AT_FIELD_NUMBER: _ClassVar[int]
    RECORDING_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MAX_PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    starts_at: _timestamp_pb2.Timestamp
    recording_enabled: bool
    max_participants: int
    def __init__(self, course_id: _Optional[str] = ..., starts_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recording_enabled: _Optional[bool] = ..., max_participants: _Optional[int] = ...) -> None: ...

class GetLiveSessionRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class DeleteLiveSessionRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class UpdateLiveSessionRequest(_message.Message):
    __slots__ = ("session_name", "course_id", "starts_at", "recording_enabled", "max_participants")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    STARTS_AT_FIELD_NUMBER: _ClassVar[int]
    RECORDING_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MAX_PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    course_id: str
    starts_at: _timestamp_pb2.Timestamp
    recording_enabled: bool
    max_participants: int
    def __init__(self, session_name: _Optional[str] = ..., course_id: _Optional[str] = ..., starts_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recording_enabled: _Optional[bool] = ..., max_participants: _Optional[int] = ...) -> None: ...

class StartSessionRecordingRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class StartSessionRecordingResponse(_message.Message):
    __slots__ = ("recording_id", "started_at")
    RECORDING_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    recording_id: str
    started_at: _timestamp_pb2.Timestamp
    def __init__(self, recording_id: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StopSessionRecordingRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class StopSessionRecordingResponse(_message.Message):
    __slots__ = ("recording_id", "stopped_at", "duration")
    RECORDING_ID_FIELD_NUMBER: _ClassVar[int]
    STOPPED_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    recording_id: str
    stopped_at: _timestamp_pb2.Timestamp
    duration: int
    def __init__(self, recording_id: _Optional[str] = ..., stopped_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[int] = ...) -> None: ...

class GetSessionRecordingRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class GetSessionRecordingResponse(_message.Message):
    __slots__ = ("recording_id", "started_at", "stopped_at", "duration", "status", "download_link", "access_link")
    class AccessLink(_message.Message):
        __slots__ = ("url", "expires_at")
        URL_FIELD_NUMBER: _ClassVar[int]
        EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
        url: str
        expires_at: _timestamp_pb2.Timestamp
        def __init__(self, url: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    RECORDING_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    STOPPED_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_LINK_FIELD_NUMBER: _ClassVar[int]
    ACCESS_LINK_FIELD_NUMBER: _ClassVar[int]
    recording_id: str
    started_at: _timestamp_pb2.Timestamp
    stopped_at: _timestamp_pb2.Timestamp
    duration: int
    status: str
    download_link: str
    access_link: GetSessionRecordingResponse.AccessLink
    def __init__(self, recording_id: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stopped_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[int] = ..., status: _Optional[str] = ..., download_link: _Optional[str] = ..., access_link: _Optional[_Union[GetSessionRecordingResponse.AccessLink, _Mapping]] = ...) -> None: ...

class GetSessionTokenRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class GetSessionTokenResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class GetInstructorLiveSessionsRequest(_message.Message):
    __slots__ = ("instructor_id", "page_size", "page_token", "status")
    INSTRUCTOR_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    instructor_id: str
    page_size: int
    page_token: str
    status: _resources_pb2.LiveSession.Status
    def __init__(self, instructor_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., status: _Optional[_Union[_resources_pb2.LiveSession.Status, str]] = ...) -> None: ...

class GetInstructorLiveSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[_resources_pb2.LiveSession]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[_resources_pb2.LiveSession, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetCourseLiveSessionsRequest(_message.Message):
    __slots__ = ("course_id", "page_size", "page_token", "status")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    page_size: int
    page_token: str
    status: _resources_pb2.LiveSession.Status
    def __init__(self, course_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., status: _Optional[_Union[_resources_pb2.LiveSession.Status, str]] = ...) -> None: ...

class GetCourseLiveSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[_resources_pb2.LiveSession]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[_resources_pb2.LiveSession, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListSessionParticipantsRequest(_message.Message):
    __slots__ = ("session_name", "page_size", "page_token")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    page_size: int
    page_token: str
    def __init__(self, session_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionParticipantsResponse(_message.Message):
    __slots__ = ("participants", "next_page_token")
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    participants: _containers.RepeatedCompositeFieldContainer[_resources_pb2.SessionParticipant]
    next_page_token: str
    def __init__(self, participants: _Optional[_Iterable[_Union[_resources_pb2.SessionParticipant, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListSessionRecordingsRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class ListSessionRecordingsResponse(_message.Message):
    __slots__ = ("recordings",)
    RECORDINGS_FIELD_NUMBER: _ClassVar[int]
    recordings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Recording]
    def __init__(self, recordings: _Optional[_Iterable[_Union[_resources_pb2.Recording, _Mapping]]] = ...) -> None: ...

class UpdateSessionParticipantRequest(_message.Message):
    __slots__ = ("session_name", "user_id", "mic_allowed", "camera_allowed")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MIC_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    user_id: str
    mic_allowed: bool
    camera_allowed: bool
    def __init__(self, session_name: _Optional[str] = ..., user_id: _Optional[str] = ..., mic_allowed: _Optional[bool] = ..., camera_allowed: _Optional[bool] = ...) -> None: ...

class MuteSessionParticipantsRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class MuteSessionParticipantsResponse(_message.Message):
    __slots__ = ("participants",)
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    participants: _containers.RepeatedCompositeFieldContainer[_resources_pb2.SessionParticipant]
    def __init__(self, participants: _Optional[_Iterable[_Union[_resources_pb2.SessionParticipant, _Mapping]]] = ...) -> None: ...

class RemoveSessionParticipantRequest(_message.Message):
    __slots__ = ("session_name", "user_id")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    user_id: str
    def __init__(self, session_name: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class ReadmitSessionParticipantRequest(_message.Message):
    __slots__ = ("session_name", "user_id")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    user_id: str
    def __init__(self, session_name: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class GetSessionAttendanceRequest(_message.Message):
    __slots__ = ("session_name", "page_size", "page_token")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    page_size: int
    page_token: str
    def __init__(self, session_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetSessionAttendanceResponse(_message.Message):
    __slots__ = ("attendance", "next_page_token")
    ATTENDANCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    attendance: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Attendance]
    next_page_token: str
    def __init__(self, attendance: _Optional[_Iterable[_Union[_resources_pb2.Attendance, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExportSessionAttendanceRequest(_message.Message):
    __slots__ = ("session_name",)
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    def __init__(self, session_name: _Optional[str] = ...) -> None: ...

class WatchLiveSessionRequest(_message.Message):
    __slots__ = ("session_name", "after_revision")
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    session_name: str
    after_revision: int
    def __init__(self, session_name: _Optional[str] = ..., after_revision: _Optional[int] = ...) -> None: ...

class ReceiveDailyWebhookRequest(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: _httpbody_pb2.HttpBody
    def __init__(self, body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class ReceiveDailyWebhookResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
