"""Indexes by the time that is left: of what is due, and of what failed."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"


def upgrade() -> None:
    """Make them."""
    is_scheduled = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_grants_time_left",
        "grants",
        ["client", "expires_at", "due_at", "fault", "refused_at"],
        sqlite_where=is_scheduled,
        postgresql_where=is_scheduled,
        if_not_exists=True,
    )
    has_failed = sa.text("fault IS NOT NULL")
    op.create_index(
        "ix_grants_at_fault",
        "grants",
        ["client", "fault", "expires_at"],
        sqlite_where=has_failed,
        postgresql_where=has_failed,
        if_not_exists=True,
    )
