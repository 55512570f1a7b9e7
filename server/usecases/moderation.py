"""Who may be in a class, and may send what. The row is committed first; then Daily is told, and told again by upkeep
until nothing that was sent before can be under way any more. Who was removed is put out for as long as a token of
theirs may let them in: Daily's own ban could not be taken back, and ends with the call."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from server.caller import Caller
from server.daily.events import Joined
from server.daily.model import Present
from server.daily.tokens import TOKEN_LIFETIME, user_id
from server.daily.turns import Priority
from server.usecases import participants, rules
from server.usecases.service import Service
from storage.model import Connection, Moderated, Participant, Recognised, Session
from storage.store import Transaction

TOKEN_LIFE = timedelta(seconds=TOKEN_LIFETIME, minutes=1)
"""Of a token that was being signed when its holder was removed."""
LOOK = timedelta(seconds=8)
"""How often those who were removed are put out again, whether or not Daily has told that they came back."""
SELDOM = 15
"""Of so many looks one also asks Daily who is there, where the others need not."""
AT_ONCE = timedelta()

Permissions = dict[str, tuple[bool, bool]]
"""By connection: whether its microphone and its camera are permitted."""


async def permit(
    service: Service, caller: Caller, room_name: str, user_id: str, mic: bool | None, camera: bool | None
) -> Participant:
    """None is left as it is."""
    session, participant = await service.store.run(_permit, caller, room_name, user_id, mic, camera)
    await _see_through(service, session)
    return participant


async def _permit(
    tx: Transaction, caller: Caller, room_name: str, user_id: str, mic: bool | None, camera: bool | None
) -> tuple[Session, Participant]:
    session = await _open_session(tx, caller, room_name)
    rules.known(await tx.participants.by_user(session.id, user_id))
    await tx.moderations.permit(session.id, user_id, mic, camera)
    await tx.moderations.due(session.id, LOOK)
    return session, rules.known(await tx.participants.by_user(session.id, user_id))


async def mute(service: Service, caller: Caller, room_name: str) -> list[Participant]:
    """The students whose microphones were permitted."""
    session, muted = await service.store.run(_mute, caller, room_name)
    await _see_through(service, session)
    return muted


async def _mute(tx: Transaction, caller: Caller, room_name: str) -> tuple[Session, list[Participant]]:
    session = await _open_session(tx, caller, room_name)
    muted = await tx.moderations.mute_students(session.id)
    await tx.moderations.due(session.id, LOOK)
    return session, muted


async def remove(service: Service, caller: Caller, room_name: str, user_id: str) -> Participant:
    session, participant = await service.store.run(_remove, caller, room_name, user_id)
    await _see_through(service, session)
    return participant


async def _remove(tx: Transaction, caller: Caller, room_name: str, user: str) -> tuple[Session, Participant]:
    session = await _open_session(tx, caller, room_name)
    rules.may_be_removed(session, user)
    await tx.moderations.remove(session.id, user, user_id(user), TOKEN_LIFE)
    await tx.moderations.due(session.id, LOOK)
    return session, rules.known(await tx.participants.by_user(session.id, user))


async def readmit(service: Service, caller: Caller, room_name: str, user_id: str) -> Participant:
    return await service.store.run(_readmit, caller, room_name, user_id)


async def _readmit(tx: Transaction, caller: Caller, room_name: str, user_id: str) -> Participant:
    session = rules.found(await tx.sessions.lock(room_name))
    rules.owns(caller, session, "moderate")
    rules.known(await tx.participants.by_user(session.id, user_id))
    await tx.moderations.readmit(session.id, user_id)
    return rules.known(await tx.participants.by_user(session.id, user_id))


async def _open_session(tx: Transaction, caller: Caller, room_name: str) -> Session:
    """It stays locked, so that of two changes at once one comes first."""
    session = rules.found(await tx.sessions.lock(room_name))
    rules.owns(caller, session, "moderate")
    if session.end_requested_at is not None:
        raise rules.ended()
    return session


async def _see_through(service: Service, session: Session) -> None:
    """In a work of this call's own: one that is under way may have read the rows before this change."""
    await service.works.finish(("moderate", session.id, uuid4()), partial(make_so, service, session))


async def who_came(tx: Transaction, joins: Sequence[tuple[UUID, Joined]], people: Sequence[Recognised]) -> None:
    """By session. Who was removed, or joined with the permissions of an older token, is seen to at once."""
    known = {(one.session_id, one.daily_user_id): one for one in people}
    untold = {session_id for session_id, join in joins if join.can_send is None}
    unchanged = untold - await tx.moderations.among(untold) if untold else set()  # no token there permits anything else
    removed, changed = set(), set()
    for session_id, join in joins:
        one = known.get((session_id, join.stay.user_id))
        if one is None:
            continue
        may_differ = join.can_send is not None or session_id not in unchanged
        if one.was_kicked:
            removed.add(one)
        elif may_differ and not join.may_send(mic_allowed=one.mic_allowed, camera_allowed=one.camera_allowed):
            changed.add(one)
    if removed:
        await tx.moderations.watch([one.id for one in removed], TOKEN_LIFE)
    if changed:
        await tx.moderations.unsettle([one.id for one in changed])
    for session_id in {one.session_id for one in removed | changed}:
        await tx.moderations.due(session_id, AT_ONCE)


async def make_so(service: Service, session: Session, look: int = 0) -> list[Moderated]:
    """Puts out who was removed, and tells Daily what those inside may send. It asks Daily who is there that we were not
    told of: while something is not settled and, as upkeep's `look` with this number, for those who joined with an older
    token. Returns who needs to be looked at again."""
    people, inside = await service.store.run(_moderated, session)
    removed = [one for one in people if one.was_kicked]
    others = [one for one in people if not one.was_kicked]
    await _put_out(service, session, removed, inside)
    present: list[Present] = []
    strangers = look > 0 and (not removed or look % SELDOM == 1)
    if any(strangers or one.unsettled_at for one in others):
        present = await participants.present(service, session) or []
        await service.daily.update_permissions(session.room_name, permissions(others, inside, present))
    return await service.store.run(_made_so, session, people, inside, present)


async def _moderated(tx: Transaction, session: Session) -> tuple[list[Moderated], list[Connection]]:
    people = await tx.moderations.moderated(session.id, rules.LEASE)
    return people, (await tx.participants.occupancy(session.id)).inside


async def _put_out(service: Service, session: Session, removed: list[Moderated], inside: list[Connection]) -> None:
    """By their users' ids, which needs nobody to tell that they are there; by that of the connection where Daily names
    no user. Who is not known to be inside is less urgent than what others wait for."""
    users = [one.daily_user_id for one in removed]
    there = {stay.daily_user_id for stay in inside} & set(users)
    nameless = [stay.id for stay in inside if stay.id == stay.daily_user_id and stay.id in there]
    for some, priority in (
        ([user for user in users if user in there], Priority.STOP),
        ([user for user in users if user not in there], Priority.READ),
    ):
        await service.daily.eject(session.room_name, user_ids=some, priority=priority)
    await service.daily.eject(session.room_name, nameless)


def permissions(people: list[Moderated], inside: list[Connection], present: list[Present]) -> Permissions:
    """What Daily may not know of the connections of these people: all of it while theirs are not settled; else of those
    that nobody told us of."""
    by_user = {one.daily_user_id: one for one in people}
    known = {stay.id for stay in inside}
    devices = {stay.id: stay.daily_user_id for stay in inside} | {one.connection_id: one.user_id for one in present}
    return {
        id: (one.mic_allowed, one.camera_allowed)
        for id, user in devices.items()
        if (one := by_user.get(user)) and (one.unsettled_at or id not in known)
    }


async def _made_so(
    tx: Transaction, session: Session, people: list[Moderated], inside: list[Connection], present: list[Present]
) -> list[Moderated]:
    """Who was put out has gone, even if their leave is never told; who was found there has come."""
    await tx.sessions.lock_by_id(session.id)
    removed = {one.daily_user_id for one in people if one.was_kicked}
    await tx.participants.gone([stay.id for stay in inside if stay.daily_user_id in removed])
    known = {stay.id for stay in inside}
    if come := [stay for stay in rules.stays_of(present) if stay.id not in known]:
        await tx.participants.recorded(session.id, come)
    await tx.moderations.settle([one for one in people if one.unsettled_at and one.all_sent])
    return [one for one in people if not (one.all_sent and one.mic_allowed and one.camera_allowed) or one.was_kicked]
