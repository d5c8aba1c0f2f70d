"""An index that finds open exchanges and leases: a start looks through no other grant."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0013"


def upgrade() -> None:
    """Make it, in the place of one that knew open exchanges alone."""
    op.drop_index("ix_grants_open", "grants", if_exists=True)
    either = sa.text("intent_sequence IS NOT NULL OR lease_holder IS NOT NULL")
    op.create_index(
        "ix_grants_under_way",
        "grants",
        ["client", "intent_first_sent_at"],
        sqlite_where=either,
        postgresql_where=either,
        if_not_exists=True,
    )
