"""What else a replica's heartbeat says: its other connection, and what servers told it."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Make the columns."""
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("replicas")}
    for column in (
        sa.Column("reader_pid", sa.BigInteger),
        sa.Column("reader_started_at", sa.Float),
        sa.Column("words", sa.String),
    ):
        if column.name not in known:
            op.add_column("replicas", column)
