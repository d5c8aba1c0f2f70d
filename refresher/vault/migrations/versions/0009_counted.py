"""Indexes that find what goes by an order of its own in a claim, and counts that are kept.

Both are the same however many grants there are: a claim looks at no grant that it does not
take, and whoever asks how many are in each state counts nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_INDEXES = (
    (
        "ix_grants_due_failing",
        ["client", "fault", "due_at", "expires_at", "lease_holder", "refused_at"],
        "fault = 'grant'",
    ),
    (
        "ix_grants_refused",
        ["client", "refused_at", "due_at", "lease_holder"],
        "refused_at IS NOT NULL",
    ),
    ("ix_grants_open", ["client", "intent_first_sent_at"], "intent_sequence IS NOT NULL"),
)

_ONE_MORE = (
    "INSERT INTO state_counts (state, count) VALUES (new.state, 1) "
    "ON CONFLICT (state) DO UPDATE SET count = count + 1;"
)
_ONE_LESS = "UPDATE state_counts SET count = count - 1 WHERE state = old.state;"

_TRIGGERS = (
    f"counts_added AFTER INSERT ON grants BEGIN {_ONE_MORE} END",
    f"counts_deleted AFTER DELETE ON grants BEGIN {_ONE_LESS} END",
    (
        "counts_moved AFTER UPDATE OF state ON grants WHEN old.state IS NOT new.state "
        f"BEGIN {_ONE_LESS} {_ONE_MORE} END"
    ),
)


def upgrade() -> None:
    """Make them, and count once; SQLite keeps the counts by triggers."""
    op.drop_index("ix_grants_doubted", "grants", if_exists=True)
    for name, columns, where in _INDEXES:
        only = sa.text(where)
        op.create_index(
            name, "grants", columns, sqlite_where=only, postgresql_where=only, if_not_exists=True
        )
    op.create_table(
        "state_counts",
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("state", name="pk_state_counts"),
        if_not_exists=True,
    )
    op.execute("DELETE FROM state_counts")
    op.execute("INSERT INTO state_counts SELECT state, count(*) FROM grants GROUP BY state")
    for trigger in _TRIGGERS:
        op.execute(f"CREATE TRIGGER IF NOT EXISTS {trigger}")
