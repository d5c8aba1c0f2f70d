"""Indexes by which grants are listed, and what has still to be revoked, in the order of names."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make them."""
    op.create_index("ix_grants_listed_by_client", "grants", ["client", "name"])
    for name, table, columns, where in (
        ("ix_grants_listed_by_state", "grants", ["state", "name"], "state <> 'fresh'"),
        ("ix_revocations_listed", "revocations", ["grant_name"], "due_at IS NOT NULL"),
    ):
        only = sa.text(where)
        op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)
