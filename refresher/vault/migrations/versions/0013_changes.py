"""The vault's log: who changed what."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table and its index."""
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "changes",
        sa.Column("id", key, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(16), nullable=False),
        sa.Column("uid", sa.BigInteger),
        sa.Column("pid", sa.BigInteger),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("grant_name", sa.String(128)),
        sa.Column("client", sa.String(128)),
        sa.Column("count", sa.BigInteger),
        sa.Column("detail", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        if_not_exists=True,
    )
    op.create_index("ix_changes_grant_name", "changes", ["grant_name", "id"], if_not_exists=True)
