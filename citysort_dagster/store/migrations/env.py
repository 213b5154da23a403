"""Runs the migrations on the connection that `Database.migrate` hands over."""

from alembic import context

from citysort_dagster.store.database import VERSION_TABLE
from citysort_dagster.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    version_table=VERSION_TABLE,
)
context.run_migrations()
