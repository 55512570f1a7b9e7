import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LiveSession(_message.Message):
    __slots__ = ("id", "course_id", "room_name", "status", "starts_at", "ends_at", "created_by", "recording_enabled", "max_participants", "created_at", "updated_at")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        status_unspecified: _ClassVar[LiveSession.Status]
        scheduled: _ClassVar[LiveSession.Status]
        live: _ClassVar[LiveSession.Status]
        ended: _ClassVar[LiveSession.Status]
    status_unspecified: LiveSession.Status
    scheduled: LiveSession.Status
    live: LiveSession.Status
    ended: LiveSession.Status
    ID_FIELD_NUMBER: _ClassVar[int]
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    ROOM_NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STARTS_AT_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    RECORDING_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MAX_PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    course_id: str
    room_name: str
    status: LiveSession.Status
    starts_at: _timestamp_pb2.Timestamp
    ends_at: _timestamp_pb2.Timestamp
    created_by: str
    recording_enabled: bool
    max_participants: int
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., course_id: _Optional[str] = ..., room_name: _Optional[str] = ..., status: _Optional[_Union[LiveSession.Status, str]] = ..., starts_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ends_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_by: _Optional[str] = ..., recording_enabled: _Optional[bool] = ..., max_participants: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SessionParticipant(_message.Message):
    __slots__ = ("id", "user_id", "session_id", "role", "joined_at", "left_at", "was_kicked", "mic_allowed", "camera_allowed", "created_at", "updated_at")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        role_unspecified: _ClassVar[SessionParticipant.Role]
        instructor: _ClassVar[SessionParticipant.Role]
        student: _ClassVar[SessionParticipant.Role]
    role_unspecified: SessionParticipant.Role
    instructor: SessionParticipant.Role
    student: SessionParticipant.Role
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    JOINED_AT_FIELD_NUMBER: _ClassVar[int]
    LEFT_AT_FIELD_NUMBER: _ClassVar[int]
    WAS_KICKED_FIELD_NUMBER: _ClassVar[int]
    MIC_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    user_id: str
    session_id: str
    role: SessionParticipant.Role
    joined_at: _timestamp_pb2.Timestamp
    left_at: _timestamp_pb2.Timestamp
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., role: _Optional[_Union[SessionParticipant.Role, str]] = ..., joined_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., left_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., was_kicked: _Optional[bool] = ..., mic_allowed: _Optional[bool] = ..., camera_allowed: _Optional[bool] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Attendance(_message.Message):
    __slots__ = ("user_id", "name", "role", "joined_at", "left_at", "duration", "share", "stays")
    class Stay(_message.Message):
        __slots__ = ("joined_at", "left_at")
        JOINED_AT_FIELD_NUMBER: _ClassVar[int]
        LEFT_AT_FIELD_NUMBER: _ClassVar[int]
        joined_at: _timestamp_pb2.Timestamp
        left_at: _timestamp_pb2.Timestamp
        def __init__(self, joined_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., left_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    JOINED_AT_FIELD_NUMBER: _ClassVar[int]
    LEFT_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    STAYS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    name: str
    role: SessionParticipant.Role
    joined_at: _timestamp_pb2.Timestamp
    left_at: _timestamp_pb2.Timestamp
    duration: int
    share: float
    stays: _containers.RepeatedCompositeFieldContainer[Attendance.Stay]
    def __init__(self, user_id: _Optional[str] = ..., name: _Optional[str] = ..., role: _Optional[_Union[SessionParticipant.Role, str]] = ..., joined_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., left_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[int] = ..., share: _Optional[float] = ..., stays: _Optional[_Iterable[_Union[Attendance.Stay, _Mapping]]] = ...) -> None: ...

class Recording(_message.Message):
    __slots__ = ("id", "session_id", "recording_id", "s3_key", "duration", "status", "created_at", "updated_at", "failure_reason")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        status_unspecified: _ClassVar[Recording.Status]
        processing: _ClassVar[Recording.Status]
        completed: _ClassVar[Recording.Status]
        failed: _ClassVar[Recording.Status]
    status_unspecified: Recording.Status
    processing: Recording.Status
    completed: Recording.Status
    failed: Recording.Status
    ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDING_ID_FIELD_NUMBER: _ClassVar[int]
    S3_KEY_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    session_id: str
    recording_id: str
    s3_key: str
    duration: int
    status: Recording.Status
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    failure_reason: str
    def __init__(self, id: _Optional[str] = ..., session_id: _Optional[str] = ..., recording_id: _Optional[str] = ..., s3_key: _Optional[str] = ..., duration: _Optional[int] = ..., status: _Optional[_Union[Recording.Status, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failure_reason: _Optional[str] = ...) -> None: ...

class LiveSessionEvent(_message.Message):
    __slots__ = ("revision", "at", "session", "participant", "recording", "heartbeat")
    class Heartbeat(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    REVISION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    RECORDING_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    at: _timestamp_pb2.Timestamp
    session: LiveSession
    participant: SessionParticipant
    recording: Recording
    heartbeat: LiveSessionEvent.Heartbeat
    def __init__(self, revision: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., session: _Optional[_Union[LiveSession, _Mapping]] = ..., participant: _Optional[_Union[SessionParticipant, _Mapping]] = ..., recording: _Optional[_Union[Recording, _Mapping]] = ..., heartbeat: _Optional[_Union[LiveSessionEvent.Heartbeat, _Mapping]] = ...) -> None: ...
