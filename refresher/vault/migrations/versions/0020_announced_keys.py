"""What each replica can open, and the keys that it needs."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Make the columns; a replica of an older version leaves them empty."""
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("replicas")}
    for name in ("opens", "needs"):
        if name not in known:
            op.add_column("replicas", sa.Column(name, sa.String))
