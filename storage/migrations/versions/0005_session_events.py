"""Session events: every change that callers can see is written down with the change itself, by triggers.

Whoever changes a row, and however, cannot forget it; and nothing is told that was rolled back. Decision record 12 says
why; `storage.events` reads what is written here."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from storage.tables import Xid8

revision = "0005"
down_revision = "0004"

TIME = postgresql.TIMESTAMP(timezone=True, precision=3)
DUE = postgresql.TIMESTAMP(timezone=True)

# The plans of all these functions are made once for a connection, when the tables may still be empty. They must not
# read a table whole ever after: hence `enable_seqscan`, and NOT IN and LATERAL, which are hashed or looked up whatever
# the sizes seemed to be.
#
# The one place that writes events. The session's row gives each its revision and stays locked until the transaction
# ends, so that revisions are seen in their order and without gaps. Many events of many sessions are a few writes.
TELL = """
CREATE FUNCTION tell(session_ids uuid[], types text[], states jsonb[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    deliver boolean := coalesce(current_setting('live_sessions.deliver', true) = 'on', false);
    kept_until timestamptz := clock_timestamp() + CASE WHEN deliver THEN interval '30 days' ELSE interval '7 days' END;
BEGIN
    WITH told AS (
        SELECT session_id, array_agg(type ORDER BY number) AS types, array_agg(state ORDER BY number) AS states
        FROM unnest(session_ids, types, states) WITH ORDINALITY AS change (session_id, type, state, number)
        GROUP BY session_id
    ), numbered AS (
        UPDATE sessions SET revision = revision + cardinality(told.types) FROM told WHERE id = session_id
        RETURNING id, revision - cardinality(told.types) AS before, told.types, told.states
    ), written AS (
        INSERT INTO session_events (session_id, revision, type, state, forget_at)
        SELECT id, before + number, type, state, kept_until
        FROM numbered
        CROSS JOIN LATERAL unnest(numbered.types, numbered.states) WITH ORDINALITY AS event (type, state, number)
        RETURNING session_id, revision, type
    ), delivered AS (
        INSERT INTO deliveries (session_id, revision)
        SELECT session_id, revision FROM written WHERE deliver AND type <> 'session.closed'
        RETURNING session_id
    )
    INSERT INTO outboxes (id, due_at) SELECT session_id, clock_timestamp() FROM delivered GROUP BY session_id
    ON CONFLICT (id) DO UPDATE SET due_at = excluded.due_at
    WHERE outboxes.due_at IS NULL OR outboxes.due_at > excluded.due_at;
END $$
"""

# States: what callers see of each thing, with times as milliseconds since 1970; never where a file lies.
STATES = """
CREATE FUNCTION milliseconds(at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (date_part('epoch', at) * 1000)::bigint
$$;
CREATE FUNCTION session_state(it sessions) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', it.id, 'course_id', it.course_id, 'room_name', it.room_name, 'status', it.status,
        'starts_at', milliseconds(it.starts_at), 'ends_at', milliseconds(it.ends_at), 'created_by', it.created_by,
        'recording_enabled', it.recording_enabled, 'max_participants', it.max_participants,
        'created_at', milliseconds(it.created_at), 'updated_at', milliseconds(it.updated_at)
    )
$$;
CREATE FUNCTION recording_state(it recordings) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', it.id, 'recording_id', it.recording_id, 'duration', it.duration, 'status', it.status,
        'failure_reason', it.failure_reason,
        'created_at', milliseconds(it.created_at), 'updated_at', milliseconds(it.updated_at)
    )
$$;
CREATE FUNCTION participant_state(it participants, joined_at timestamptz, left_at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', it.id, 'user_id', it.user_id, 'role', it.role,
        'joined_at', milliseconds(joined_at), 'left_at', milliseconds(left_at),
        'was_kicked', it.was_kicked, 'mic_allowed', it.mic_allowed, 'camera_allowed', it.camera_allowed,
        'created_at', milliseconds(it.created_at), 'updated_at', milliseconds(it.updated_at)
    )
$$;
"""

# When a participant joined and left, derived from stays exactly as `storage.participants` does.
JOINED = "coalesce(joined_at, polled_joined_at)"
LEFT = f"""
CASE WHEN left_at IS NOT NULL OR polled_left_at IS NOT NULL
    THEN greatest(coalesce(left_at, polled_left_at), {JOINED}) END
"""
STAYS = f"""
CREATE FUNCTION stays(session uuid, daily_user text, until timestamptz)
RETURNS TABLE (joined_at timestamptz, left_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT min(stay.came), CASE WHEN bool_and(stay.went IS NOT NULL) THEN max(stay.went) END
    FROM (
        SELECT {JOINED} AS came, {LEFT} AS went FROM connections
        WHERE session_id = session AND daily_user_id = daily_user
    ) AS stay
    WHERE until IS NULL OR stay.came IS NULL OR stay.came <= until
$$;
"""  # noqa: S608 - of constants
STAYS_CHANGED = """
CREATE FUNCTION stays_changed(
    was_joined_at timestamptz, was_left_at timestamptz, joined_at timestamptz, left_at timestamptz
) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN left_at IS NOT NULL AND was_left_at IS NULL THEN 'participant.left'
        WHEN left_at IS NULL AND joined_at IS NOT NULL AND (was_joined_at IS NULL OR was_left_at IS NOT NULL)
            THEN 'participant.joined'
        ELSE 'participant.updated'
    END
$$;
"""


def _on_stays(name: str, event: str, was: str, transition: str) -> str:
    """Tells of those participants who are seen otherwise after stays were added or changed. What was seen before is
    found without the rows that are new, and with those that were old."""
    return f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM tell(array_agg(session_id), array_agg(type), array_agg(state)) FROM (
        WITH stay AS (
            SELECT found.session_id, found.daily_user_id, {JOINED} AS came, {LEFT} AS went,
                true AS after, id NOT IN (SELECT id FROM changed) AS before
            FROM (SELECT DISTINCT session_id, daily_user_id FROM changed) AS touched CROSS JOIN LATERAL (
                SELECT * FROM connections
                WHERE session_id = touched.session_id AND daily_user_id = touched.daily_user_id OFFSET 0
            ) AS found
            UNION ALL SELECT session_id, daily_user_id, {JOINED}, {LEFT}, false, true FROM {was}
        ), seen AS (
            SELECT session_id, daily_user_id,
                min(came) FILTER (WHERE before) AS was_joined_at,
                CASE WHEN bool_and(went IS NOT NULL) FILTER (WHERE before) THEN max(went) FILTER (WHERE before) END AS was_left_at,
                min(came) FILTER (WHERE after) AS joined_at,
                CASE WHEN bool_and(went IS NOT NULL) FILTER (WHERE after) THEN max(went) FILTER (WHERE after) END AS left_at
            FROM stay
            WHERE came IS NULL OR came <= coalesce((SELECT ends_at FROM sessions WHERE id = session_id), 'infinity')
            GROUP BY session_id, daily_user_id
        )
        SELECT seen.session_id, stays_changed(was_joined_at, was_left_at, joined_at, left_at) AS type,
            participant_state(person, joined_at, left_at) AS state
        FROM seen CROSS JOIN LATERAL (
            SELECT * FROM participants
            WHERE session_id = seen.session_id AND daily_user_id = seen.daily_user_id OFFSET 0
        ) AS person
        WHERE (joined_at, left_at) IS DISTINCT FROM (was_joined_at, was_left_at)
        ORDER BY coalesce(left_at, joined_at)
    ) AS change
    HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER {name} AFTER {event} ON connections REFERENCING {transition}
FOR EACH STATEMENT EXECUTE FUNCTION {name}()
"""  # noqa: S608 - of constants


# Meeting tokens are issued by upserts of participants: an insertion of somebody who may do everything never comes here,
# and an update that changes nothing of this ends with the first look.
ON_PARTICIPANTS = """
CREATE FUNCTION tell_new_participant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell(
        ARRAY[NEW.session_id],
        ARRAY[CASE WHEN NEW.was_kicked THEN 'participant.removed' ELSE 'participant.updated' END],
        ARRAY[participant_state(NEW, joined_at, left_at)]
    ) FROM stays(NEW.session_id, NEW.daily_user_id, (SELECT ends_at FROM sessions WHERE id = NEW.session_id));
    RETURN NULL;
END $$;
CREATE TRIGGER tell_new_participant AFTER INSERT ON participants
FOR EACH ROW WHEN (NEW.was_kicked OR NOT NEW.mic_allowed OR NOT NEW.camera_allowed)
EXECUTE FUNCTION tell_new_participant();

CREATE FUNCTION tell_participants() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM tell(array_agg(session_id), array_agg(type), array_agg(state)) FROM (
        SELECT person.session_id,
            CASE
                WHEN was_kicked AND id NOT IN (SELECT id FROM was WHERE was_kicked) THEN 'participant.removed'
                WHEN NOT was_kicked AND id IN (SELECT id FROM was WHERE was_kicked) THEN 'participant.readmitted'
                ELSE 'participant.updated'
            END AS type,
            participant_state(ROW(person.*)::participants, seen.joined_at, seen.left_at) AS state
        FROM changed AS person CROSS JOIN LATERAL stays(
            person.session_id, person.daily_user_id, (SELECT ends_at FROM sessions WHERE id = person.session_id)
        ) AS seen
        WHERE (id, was_kicked, mic_allowed, camera_allowed)
            NOT IN (SELECT id, was_kicked, mic_allowed, camera_allowed FROM was)
        ORDER BY created_at, id
    ) AS change
    HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_participants AFTER UPDATE ON participants REFERENCING OLD TABLE AS was NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION tell_participants();
"""

# A session is told of once it has its room; that the room is gone for good is told to no client, and ends their streams.
# Who came after the end, as it is known now, has not been in the class.
SESSION = (
    "course_id room_name status starts_at ends_at created_by recording_enabled max_participants created_at updated_at"
)
ON_SESSIONS = """
CREATE FUNCTION tell_session() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    types text[] := ARRAY[]::text[];
BEGIN
    IF OLD.room_created_at IS NULL THEN
        types := ARRAY['session.created'];
    ELSIF NEW.status <> OLD.status AND NEW.status <> 'scheduled' THEN
        types := ARRAY['session.' || NEW.status];
    ELSIF session_state(NEW) <> session_state(OLD) THEN
        types := ARRAY['session.updated'];
    END IF;
    IF NEW.room_deleted_at IS NOT NULL AND OLD.room_deleted_at IS NULL THEN
        types := types || 'session.closed'::text;
    END IF;
    PERFORM tell(array_agg(NEW.id), array_agg(type), array_agg(session_state(NEW))) FROM unnest(types) AS type;
    IF NEW.ends_at IS NOT NULL AND OLD.ends_at IS NULL THEN
        PERFORM tell(array_agg(NEW.id), array_agg(type), array_agg(state)) FROM (
            SELECT stays_changed(before.joined_at, before.left_at, seen.joined_at, seen.left_at) AS type,
                participant_state(person, seen.joined_at, seen.left_at) AS state
            FROM participants AS person
            CROSS JOIN LATERAL stays(NEW.id, person.daily_user_id, NULL) AS before
            CROSS JOIN LATERAL stays(NEW.id, person.daily_user_id, NEW.ends_at) AS seen
            WHERE person.session_id = NEW.id AND person.daily_user_id IN (
                SELECT daily_user_id FROM connections WHERE session_id = NEW.id AND {joined} > NEW.ends_at
            ) AND (seen.joined_at, seen.left_at) IS DISTINCT FROM (before.joined_at, before.left_at)
        ) AS change
        HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_new_session AFTER INSERT ON sessions
FOR EACH ROW WHEN (NEW.room_created_at IS NOT NULL) EXECUTE FUNCTION tell_session();
CREATE TRIGGER tell_session AFTER UPDATE ON sessions
FOR EACH ROW WHEN (NEW.room_created_at IS NOT NULL AND (
    {differs}
    OR (OLD.room_created_at IS NULL) <> (NEW.room_created_at IS NULL)
    OR (OLD.room_deleted_at IS NULL) <> (NEW.room_deleted_at IS NULL)
)) EXECUTE FUNCTION tell_session();
"""

# A recording is told of once Daily runs it, or when that has failed: by what it is then, once more where its file or its
# exact length comes later.
RECORDING = "recording_id status duration failure_reason created_at updated_at"
ON_RECORDINGS = """
CREATE FUNCTION tell_recording() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell(
        ARRAY[NEW.session_id],
        ARRAY[CASE NEW.status WHEN 'processing' THEN 'recording.started' ELSE 'recording.' || NEW.status END],
        ARRAY[recording_state(NEW)]
    );
    RETURN NULL;
END $$;
CREATE TRIGGER tell_new_recording AFTER INSERT ON recordings
FOR EACH ROW WHEN (NEW.recording_id IS NOT NULL OR NEW.status = 'failed') EXECUTE FUNCTION tell_recording();
CREATE TRIGGER tell_recording AFTER UPDATE ON recordings
FOR EACH ROW WHEN ((NEW.recording_id IS NOT NULL OR NEW.status = 'failed') AND {differs})
EXECUTE FUNCTION tell_recording();
"""


def upgrade() -> None:
    # Nothing of the tables that are there is rewritten: what was so before is told to nobody.
    op.add_column("sessions", sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_table(
        "session_events",
        sa.Column("session_id", sa.Uuid(), sa.ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("at", TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", postgresql.JSONB(), nullable=False),
        sa.Column("transaction", Xid8(), nullable=False, server_default=sa.func.pg_current_xact_id()),
        sa.Column("forget_at", TIME, nullable=False),
    )
    op.create_index("session_events_transaction", "session_events", ["transaction"])
    op.create_index("session_events_forget_at", "session_events", ["forget_at"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), primary_key=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", DUE, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("due_at", DUE, server_default=sa.func.clock_timestamp()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("delivered_at", TIME),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(
            ["session_id", "revision"],
            ["session_events.session_id", "session_events.revision"],
            name="deliveries_session_id_fkey",
            ondelete="CASCADE",
        ),
    )
    op.create_index("deliveries_session_id_revision", "deliveries", ["session_id", "revision"], unique=True)
    is_due, has_failed = sa.text("due_at IS NOT NULL"), sa.text("due_at IS NULL AND delivered_at IS NULL")
    op.create_index("deliveries_due", "deliveries", ["session_id", "due_at"], postgresql_where=is_due)
    op.create_index("deliveries_created_at", "deliveries", ["created_at", "id"])
    op.create_index("deliveries_failed", "deliveries", ["created_at", "id"], postgresql_where=has_failed)
    op.create_table(
        "outboxes",
        sa.Column("id", sa.Uuid(), sa.ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("due_at", DUE),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )
    op.create_index("outboxes_due", "outboxes", ["due_at"], postgresql_where=is_due)
    for statement in (
        STATES,
        STAYS,
        STAYS_CHANGED,
        TELL,
        _on_stays("tell_new_stays", "INSERT", "connections WHERE false", "NEW TABLE AS changed"),
        _on_stays("tell_stays", "UPDATE", "was", "OLD TABLE AS was NEW TABLE AS changed"),
        ON_PARTICIPANTS,
        ON_SESSIONS.format(joined=JOINED, differs=_differ(SESSION)),
        ON_RECORDINGS.format(differs=_differ(RECORDING)),
    ):
        op.execute(sa.text(statement.replace(":", "\\:")))


def _differ(columns: str) -> str:
    """Whether any of these columns is another one than before."""
    old, new = (", ".join(f"{row}.{name}" for name in columns.split()) for row in ("OLD", "NEW"))
    return f"({new}) IS DISTINCT FROM ({old})"


def downgrade() -> None:
    for trigger, table in (
        ("tell_recording", "recordings"),
        ("tell_new_recording", "recordings"),
        ("tell_session", "sessions"),
        ("tell_new_session", "sessions"),
        ("tell_participants", "participants"),
        ("tell_new_participant", "participants"),
        ("tell_stays", "connections"),
        ("tell_new_stays", "connections"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    functions = "tell_recording, tell_session, tell_participants, tell_new_participant, tell_stays, tell_new_stays"
    op.execute(f"DROP FUNCTION {functions}, tell, stays, stays_changed")
    op.execute("DROP FUNCTION session_state, recording_state, participant_state, milliseconds")
    op.drop_table("outboxes")
    op.drop_table("deliveries")
    op.drop_table("session_events")
    op.drop_column("sessions", "revision")
