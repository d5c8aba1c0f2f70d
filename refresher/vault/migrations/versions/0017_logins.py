"""Logins under way, which any process may finish."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make their table."""
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "logins",
        sa.Column("id", key, nullable=False),
        sa.Column("handle", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("grant_name", sa.String(128), nullable=False),
        sa.Column("client", sa.String(128), nullable=False),
        sa.Column("state_fingerprint", sa.LargeBinary(16)),
        sa.Column("begun_at", sa.Float, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
        sa.Column("poll_interval", sa.Float),
        sa.Column("due_at", sa.Float),
        sa.Column("sealed", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_logins"),
        sa.UniqueConstraint("handle", name="uq_logins_handle"),
        if_not_exists=True,
    )
    for column in ("state_fingerprint", "ends_at"):
        op.create_index(f"ix_logins_{column}", "logins", [column], if_not_exists=True)
