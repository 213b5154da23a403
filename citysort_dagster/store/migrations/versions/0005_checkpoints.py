"""Where the listings of changes have come to"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "source_checkpoints",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("checkpoint", sa.String(), nullable=False),
        sa.Column("configured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["connector_configs.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("source"),
    )
