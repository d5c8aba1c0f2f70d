"""What keeps grants apart: whose a failure was, doubts, incidents, parked revocations."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns of the grants, their indexes and two tables."""
    for column in (
        sa.Column("failing_since", sa.Float),
        sa.Column("fault", sa.String(16)),
        sa.Column("served_at", sa.Float),
        sa.Column("refused_at", sa.Float),
        sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),
        sa.Column("refresh_window", sa.Float),
        sa.Column("early_refusals", sa.Integer, nullable=False, server_default="0"),
        sa.Column("predecessor_sealed", sa.LargeBinary),
    ):
        op.add_column("grants", column)
    # Whoever holds a token that an exchange brought was served.
    op.execute("UPDATE grants SET served_at = issued_at WHERE adopted_sequence > 0")
    op.drop_index("ix_grants_claim", "grants")
    op.create_index(
        "ix_grants_claim",
        "grants",
        ["client", "due_at", "expires_at", "lease_holder", "fault", "refused_at"],
    )
    op.create_index("ix_grants_served", "grants", ["client", "served_at"])
    op.create_index("ix_grants_doubted", "grants", ["client", "refused_at"])
    op.create_table(
        "incidents",
        sa.Column("client", sa.String(128), nullable=False),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("client", name="pk_incidents"),
    )
    op.create_table(
        "revocations",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("client", sa.String(128), nullable=False),
        sa.Column("grant_name", sa.String(128), nullable=False),
        sa.Column("grant_uid", sa.String(32), nullable=False),
        sa.Column("authorization_serial", sa.BigInteger, nullable=False),
        sa.Column("parked_at", sa.Float, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_revocations"),
    )
    op.create_index(
        "ix_revocations_authorization", "revocations", ["grant_uid", "authorization_serial"]
    )
    op.create_index("ix_revocations_due_at", "revocations", ["due_at"])
