"""Which account authorized a grant, so that a login by another one is noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns; of the logins up to now nobody knows."""
    op.add_column("grants", sa.Column("authorized_by", sa.String(255)))
    op.add_column("grants", sa.Column("authorized_subject", sa.String(255)))
