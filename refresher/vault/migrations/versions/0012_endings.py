"""When a person is told that a refresh token ends, and the notifications that are to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_DAY = 86_400
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add them; a warning is of what was left when its end was told last."""
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("grants")}
    for column in (
        sa.Column("authorized_at", sa.Float),
        sa.Column("end_warning_at", sa.Float),
        sa.Column("end_announced", sa.Integer),
    ):
        if column.name not in known:
            op.add_column("grants", column)
    ends_at, served_at = (
        sa.column("refresh_token_expires_at", sa.Float),
        sa.column("served_at", sa.Float),
    )
    grants = sa.table("grants", ends_at, served_at, sa.column("end_warning_at"))
    left = ends_at - served_at
    warnings = [(left > 2 * days * _DAY, ends_at - days * _DAY) for days in (14, 7, 1)]
    op.execute(sa.update(grants).values(end_warning_at=sa.case(*warnings, else_=None)))
    has_warning = sa.text("end_warning_at IS NOT NULL")
    op.create_index(
        "ix_grants_end_warning_at",
        "grants",
        ["end_warning_at"],
        sqlite_where=has_warning,
        postgresql_where=has_warning,
        if_not_exists=True,
    )
    op.create_table(
        "notifications",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        if_not_exists=True,
    )
    op.create_index("ix_notifications_due_at", "notifications", ["due_at"], if_not_exists=True)
