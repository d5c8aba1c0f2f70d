"""The first schema: grants, adopted seeds, kept answers, facts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create every table."""
    _create_grants()
    op.create_table(
        "adopted_seeds",
        sa.Column("client", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
        sa.Column("grant_name", sa.String(128), nullable=False),
        sa.Column("adopted_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("client", "fingerprint", name="pk_adopted_seeds"),
    )
    op.create_table(
        "kept_answers",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("grant_uid", sa.String(32), nullable=False),
        sa.Column("grant_name", sa.String(128), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kept_answers"),
    )
    op.create_index("ix_kept_answers_grant_uid", "kept_answers", ["grant_uid"])
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )


def _create_grants() -> None:
    op.create_table(
        "grants",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("client", sa.String(128)),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("scope", sa.JSON, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(128)),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("authorization_serial", sa.BigInteger, nullable=False),
        sa.Column("attempt_sequence", sa.BigInteger, nullable=False),
        sa.Column("adopted_sequence", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("refresh_token_sealed", sa.LargeBinary),
        sa.Column("refresh_token_fingerprint", sa.LargeBinary(16)),
        sa.Column("predecessor_fingerprint", sa.LargeBinary(16)),
        sa.Column("refresh_token_obtained_at", sa.Float),
        sa.Column("refresh_token_expires_at", sa.Float),
        sa.Column("token_sealed", sa.LargeBinary),
        sa.Column("token_type", sa.String(64), nullable=False),
        sa.Column("granted_scope", sa.String, nullable=False),
        sa.Column("redirect_uri", sa.String),
        sa.Column("issued_at", sa.Float),
        sa.Column("expires_at", sa.Float),
        sa.Column("due_at", sa.Float),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("requested_at", sa.Float),
        sa.Column("intent_sequence", sa.BigInteger),
        sa.Column("intent_presented", sa.LargeBinary(16)),
        sa.Column("intent_first_sent_at", sa.Float),
        sa.Column("intent_attempts", sa.Integer),
        sa.Column("lease_holder", sa.String(64)),
        sa.Column("lease_taken_at", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
        sa.UniqueConstraint("name", name="uq_grants_name"),
    )
    op.create_index(
        "ix_grants_client_fingerprint", "grants", ["client", "refresh_token_fingerprint"]
    )
    op.create_index("ix_grants_due_at", "grants", ["due_at"])
    op.create_index("ix_grants_expires_at", "grants", ["expires_at"])
