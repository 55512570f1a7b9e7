"""Alembic's entry: one connection, one transaction, and a lock so that replicas that start together migrate once."""

import psycopg
from alembic import context
from sqlalchemy import create_engine, pool, text

from storage.tables import metadata

url = context.config.attributes["database_url"]
engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(300851798)"))
        # Whoever waits for a table holds up all who come after it: better to fail, and to be run again.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()
