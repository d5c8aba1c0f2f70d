"""What grants ask for that renew themselves: for whom, and for which audiences."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the columns, and the index that finds what depends on another grant."""
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("grants")}
    for column in (sa.Column("subject", sa.String(255)), sa.Column("terms", sa.JSON)):
        if column.name not in known:
            op.add_column("grants", column)
    only = sa.text("kind = 'exchange'")
    op.create_index(
        "ix_grants_subject",
        "grants",
        ["fault", "subject"],
        sqlite_where=only,
        postgresql_where=only,
        if_not_exists=True,
    )
