"""Who shares a vault, and until when each of them has leased what."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the table, and the columns of the last claim."""
    op.create_table(
        "replicas",
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("backend_pid", sa.BigInteger),
        sa.Column("backend_started_at", sa.Float),
        sa.Column("backend_server", sa.String(255)),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("heartbeat_at", sa.Float, nullable=False),
        sa.Column("gone_at", sa.Float),
        sa.PrimaryKeyConstraint("holder", name="pk_replicas"),
        if_not_exists=True,
    )
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("grants")}
    for column in (sa.Column("lease_ends_at", sa.Float), sa.Column("claimed_by", sa.String(255))):
        if column.name not in known:
            op.add_column("grants", column)
