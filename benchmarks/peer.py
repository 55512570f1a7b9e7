"""The same endpoints as a good Python team would write them: FastAPI, SQLAlchemy's async ORM, psycopg, PyJWT, httpx.

It reads the same tables, checks the same callers' tokens, gives the same answers and commits as durably. Served by
uvicorn with uvloop and httptools, without an access log. What FastAPI's and SQLAlchemy's own documents advise for speed
is done: response models that pydantic serializes straight to bytes, async dependencies (no thread per call), one engine
with a fixed pool and cached statements, objects that do not expire on commit, one HTTP client, tokens signed locally.
"""

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import FetchedValue, func, select
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = os.environ["LIVE_SESSIONS_JWT_SECRET"]
DAILY_KEY = os.environ["LIVE_SESSIONS_DAILY_API_KEY"]
DATABASE_URL = os.environ["LIVE_SESSIONS_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
TOKEN_LIFETIME = 6 * 3600

engine = create_async_engine(DATABASE_URL, pool_size=20, max_overflow=0, pool_timeout=60, pool_use_lifo=True)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: TIMESTAMP(timezone=True, precision=3)}  # noqa: RUF012


class LiveSession(Base):
    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=FetchedValue())
    course_id: Mapped[str]
    room_name: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=FetchedValue())
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    created_by: Mapped[str]
    recording_enabled: Mapped[bool]
    max_participants: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    updated_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    room_created_at: Mapped[datetime | None]


class Participant(Base):
    __tablename__ = "participants"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=FetchedValue())
    user_id: Mapped[str]
    daily_user_id: Mapped[str]
    session_id: Mapped[UUID]
    role: Mapped[str]
    was_kicked: Mapped[bool]
    mic_allowed: Mapped[bool]
    camera_allowed: Mapped[bool]
    updated_at: Mapped[datetime]


class NewSession(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    course_id: str = Field(min_length=1, max_length=128)
    starts_at: datetime
    recording_enabled: bool = False
    max_participants: int | None = Field(default=None, ge=1, le=100_000)


class SessionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, alias_generator=AliasGenerator(serialization_alias=to_camel))

    id: UUID = Field(serialization_alias="_id")
    course_id: str
    room_name: str
    status: str
    starts_at: datetime
    ends_at: datetime | None
    created_by: str
    recording_enabled: bool
    max_participants: int | None
    created_at: datetime
    updated_at: datetime


class TokenOut(BaseModel):
    token: str


class Caller(BaseModel):
    id: str = Field(min_length=1, max_length=128)
    name: str
    role: str


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {DAILY_KEY}"}
    async with httpx.AsyncClient(base_url=os.environ["LIVE_SESSIONS_DAILY_API_URL"], headers=headers) as daily:
        domain_id = (await daily.get("/")).raise_for_status().json()["domain_id"]
        yield {"daily": daily, "domain_id": domain_id}
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


async def database() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


async def authenticated(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> Caller:
    try:
        claims = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"], options={"require": ["exp"]})
    except jwt.PyJWTError:
        raise HTTPException(401, "The token is not valid") from None
    role = "instructor" if claims.get("role") == "instructor" else "student"
    id = claims.get("id") or claims["sub"]
    return Caller(id=id, name=claims.get("name") or id, role=role)


Database = Annotated[AsyncSession, Depends(database)]
SignedIn = Annotated[Caller, Depends(authenticated)]


@app.get("/sessions/instructor/{instructor_id}", response_model=list[SessionOut])
async def instructor_sessions(instructor_id: str, db: Database) -> Any:
    query = select(LiveSession).where(LiveSession.created_by == instructor_id, LiveSession.room_created_at.is_not(None))
    return (await db.scalars(query.order_by(LiveSession.starts_at.desc(), LiveSession.id.desc()))).all()


@app.get("/sessions/{session_name}", response_model=SessionOut)
async def get_session(session_name: str, db: Database) -> Any:
    session = await _by_name(db, session_name)
    return JSONResponse("Session not found", 500) if session is None else session


@app.post("/sessions", response_model=SessionOut, status_code=201)
async def create_session(new: NewSession, caller: SignedIn, db: Database, request: Request) -> Any:
    if caller.role != "instructor":
        raise HTTPException(403, "Only instructors can create sessions")
    name = f"ls-{secrets.token_urlsafe(16)}"
    properties: dict[str, Any] = {}
    if new.max_participants is not None:
        properties["max_participants"] = new.max_participants
    if new.recording_enabled:
        properties["enable_recording"] = "cloud"
    room = {"name": name, "privacy": "private", "properties": properties}
    (await request.state.daily.post("/rooms", json=room)).raise_for_status()
    values = new.model_dump() | {"room_name": name, "created_by": caller.id, "room_created_at": func.now()}
    session = (await db.scalars(insert(LiveSession).values(values).returning(LiveSession))).one()
    await db.commit()
    return session


@app.post("/sessions/{session_name}/token", response_model=TokenOut)
async def get_token(session_name: str, caller: SignedIn, db: Database, request: Request) -> Any:
    session = await _by_name(db, session_name)
    if session is None:
        raise HTTPException(404, "Session not found")
    if session.status == "ended":
        raise HTTPException(400, "Session has ended")
    upsert = insert(Participant).values(
        session_id=session.id, user_id=caller.id, daily_user_id=caller.id, role=caller.role
    )
    upsert = upsert.on_conflict_do_update(
        index_elements=["session_id", "user_id"], set_={"role": upsert.excluded.role, "updated_at": func.now()}
    )
    flags = (Participant.was_kicked, Participant.mic_allowed, Participant.camera_allowed)
    was_kicked, mic_allowed, camera_allowed = (await db.execute(upsert.returning(*flags))).one()
    await db.commit()
    if was_kicked:
        raise HTTPException(403, f"Not authorized to join session:{session_name}")
    now = int(time.time())
    claims = {
        "r": session_name,
        "d": request.state.domain_id,
        "ud": caller.id,
        "u": caller.name,
        "o": caller.role == "instructor",
        "iat": now,
        "exp": now + TOKEN_LIFETIME,
    }
    if not (mic_allowed and camera_allowed):
        sends = ["v", "sv"] * camera_allowed + ["a", "sa"] * mic_allowed
        claims["p"] = {"cs": ",".join(sends) or False}
    return {"token": jwt.encode(claims, DAILY_KEY, algorithm="HS256")}


async def _by_name(db: AsyncSession, room_name: str) -> LiveSession | None:
    query = select(LiveSession).where(LiveSession.room_name == room_name, LiveSession.room_created_at.is_not(None))
    session: LiveSession | None = await db.scalar(query)
    return session
