"""An index in the order in which due grants have their turns: very many are not sorted."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0015"


def upgrade() -> None:
    """Make it."""
    is_scheduled = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_grants_time_left",
        "grants",
        ["client", "expires_at", "due_at", "fault", "refused_at"],
        sqlite_where=is_scheduled,
        postgresql_where=is_scheduled,
        if_not_exists=True,
    )
