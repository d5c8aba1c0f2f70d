"""Indexes that show what the clock changes, and nothing else, to a look each second."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_DEGRADES_AT = (
    "expires_at - CASE WHEN expires_at - issued_at <= 120 THEN (expires_at - issued_at) / 4 "
    "WHEN expires_at - issued_at <= 300 THEN 30 "
    "WHEN expires_at - issued_at < 3000 THEN (expires_at - issued_at) / 10 ELSE 300 END"
)


def upgrade() -> None:
    """Make them; the index of all ends of tokens becomes one of those that still count."""
    op.drop_index("ix_grants_expires_at", "grants")
    for name, columns, where in (
        ("ix_grants_ending", ["expires_at"], "state IN ('fresh', 'degraded')"),
        (
            "ix_grants_ended_unnoticed",
            ["expires_at"],
            "state IN ('paused', 'reauthorization_required')",
        ),
        ("ix_grants_degrading", [sa.text(_DEGRADES_AT)], "state = 'fresh' AND failures > 0"),
        ("ix_grants_failing_alone", ["failing_since"], "state = 'fresh' AND fault = 'grant'"),
        (
            "ix_grants_refresh_token_expires_at",
            ["refresh_token_expires_at"],
            "refresh_token_expires_at IS NOT NULL",
        ),
    ):
        only = sa.text(where)
        op.create_index(name, "grants", columns, sqlite_where=only, postgresql_where=only)
    only = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_revocations_parked",
        "revocations",
        ["client", "due_at", "ends_at"],
        sqlite_where=only,
        postgresql_where=only,
    )
