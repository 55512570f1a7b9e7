"""Alembic's entry: one connection, one transaction, in which the row with the revision is locked, so that of those who
migrate at the same time one does it, and the others find it done."""

import psycopg
from alembic import context
from sqlalchemy import create_engine, inspect, pool, text

from storage.tables import metadata
from storage.url import dialled

dsn = dialled(context.config.attributes["database_url"])
engine = create_engine(
    "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=pool.NullPool, hide_parameters=True
)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        if inspect(connection).has_table("alembic_version"):
            connection.execute(text("SET LOCAL lock_timeout = '15s'"))
            connection.execute(text("SELECT version_num FROM alembic_version FOR UPDATE"))
        # Whoever waits for a table holds up all who come after it: better to fail, and to be run again.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()
