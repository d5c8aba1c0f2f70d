"""What consumers rejected, what became of it, and how often they may ask."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns of a rejection to the grants."""
    for column in (
        sa.Column("request_interval", sa.Float),
        sa.Column("rejected_version", sa.BigInteger),
        sa.Column("rejection_answer", sa.String(32)),
        sa.Column("rejection_until", sa.Float),
    ):
        op.add_column("grants", column)
