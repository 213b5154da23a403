"""Tombstones of documents that are gone from their source"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("connector_sync_log", sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True))
