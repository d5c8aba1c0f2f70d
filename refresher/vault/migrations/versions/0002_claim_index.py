"""An index that a claim needs nothing beside."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create it."""
    columns = ["client", "due_at", "expires_at", "lease_holder"]
    op.create_index("ix_grants_claim", "grants", columns)
