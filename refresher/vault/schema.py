"""The tables, one set for SQLite and PostgreSQL.

No option of PostgreSQL's own is given here: SQLAlchemy would load its whole dialect, 2 MB of
every daemon that keeps its vault in SQLite.

Removed grants stay as rows without secrets: their versions must go on growing when the
name comes back, and their status must reach Redis again after a flush.
"""

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
    literal_column,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a plain INTEGER primary key."""

grants = Table(
    "grants",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("uid", String(32), nullable=False),
    Column("name", String(128), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("client", String(128)),
    Column("origin", String(16), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("scope", JSON, nullable=False),
    Column("subject", String(255)),
    Column("terms", JSON(none_as_null=True)),
    Column("state", String(32), nullable=False),
    Column("reason", String(128)),
    Column("since", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("authorization_serial", BigInteger, nullable=False),
    Column("attempt_sequence", BigInteger, nullable=False),
    Column("adopted_sequence", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("refresh_token_sealed", LargeBinary),
    Column("refresh_token_fingerprint", LargeBinary(16)),
    Column("predecessor_fingerprint", LargeBinary(16)),
    Column("predecessor_sealed", LargeBinary),
    Column("refresh_token_obtained_at", Float),
    Column("refresh_token_expires_at", Float),
    Column("authorized_at", Float),
    Column("end_warning_at", Float),
    Column("end_announced", Integer),
    Column("token_sealed", LargeBinary),
    Column("token_type", String(64), nullable=False),
    Column("granted_scope", String, nullable=False),
    Column("redirect_uri", String),
    Column("authorized_by", String(255)),
    Column("authorized_subject", String(255)),
    Column("issued_at", Float),
    Column("expires_at", Float),
    Column("due_at", Float),
    Column("failures", Integer, nullable=False),
    Column("failing_since", Float),
    Column("fault", String(16)),
    Column("served_at", Float),
    Column("refused_at", Float),
    Column("refusals", Integer, nullable=False, default=0),
    Column("refresh_window", Float),
    Column("early_refusals", Integer, nullable=False, default=0),
    Column("requested_at", Float),
    Column("request_interval", Float),
    Column("rejected_version", BigInteger),
    Column("rejection_answer", String(32)),
    Column("rejection_until", Float),
    Column("intent_sequence", BigInteger),
    Column("intent_presented", LargeBinary(16)),
    Column("intent_first_sent_at", Float),
    Column("intent_attempts", Integer),
    Column("lease_holder", String(64)),
    Column("lease_taken_at", Float),
    # Of the last claim, and left there once its lease has ended.
    Column("lease_ends_at", Float),
    Column("claimed_by", String(255)),
)
# Not unique: a server may hand one account the same refresh token twice, and an answer must
# never be refused. What people add is checked (``authorizations.refuse_duplicate``).
Index("ix_grants_client_fingerprint", grants.c.client, grants.c.refresh_token_fingerprint)
Index("ix_grants_due_at", grants.c.due_at)
# What failed, by whose fault, those first whose tokens end first (``hastening``).
Index(
    "ix_grants_at_fault",
    grants.c.client,
    grants.c.fault,
    grants.c.expires_at,
    sqlite_where=grants.c.fault.is_not(None),
)
# Which of those wait for their subject whose tokens depend on another grant.
IS_EXCHANGED = text("kind = 'exchange'")
Index("ix_grants_subject", grants.c.fault, grants.c.subject, sqlite_where=IS_EXCHANGED)
# A claim reads nothing but this, however many grants are due at once.
Index(
    "ix_grants_claim",
    grants.c.client,
    grants.c.due_at,
    grants.c.expires_at,
    grants.c.lease_holder,
    grants.c.fault,
    grants.c.refused_at,
)
# Where very many are due at once they are found in the order of their turns, and not sorted.
Index(
    "ix_grants_time_left",
    grants.c.client,
    grants.c.expires_at,
    grants.c.due_at,
    grants.c.fault,
    grants.c.refused_at,
    sqlite_where=grants.c.due_at.is_not(None),
)
# What goes by an order of its own in a claim is found in an index of its own.
FAILS_BY_ITSELF = text("fault = 'grant'")
Index(
    "ix_grants_due_failing",
    grants.c.client,
    grants.c.fault,
    grants.c.due_at,
    grants.c.expires_at,
    grants.c.lease_holder,
    grants.c.refused_at,
    sqlite_where=FAILS_BY_ITSELF,
)
IS_OPEN = text("intent_sequence IS NOT NULL")
# What a dead process left: leases too, which outlive the intent of an exchange that a login
# has overtaken. So a start looks through no grant that nobody works on.
Index(
    "ix_grants_under_way",
    grants.c.client,
    grants.c.intent_first_sent_at,
    sqlite_where=text("intent_sequence IS NOT NULL OR lease_holder IS NOT NULL"),
)
# Was another grant of the client served since this one was refused; how many are doubted, and
# which of them are due.
Index("ix_grants_served", grants.c.client, grants.c.served_at)
IS_DOUBTED = text("refused_at IS NOT NULL")
Index(
    "ix_grants_refused",
    grants.c.client,
    grants.c.refused_at,
    grants.c.due_at,
    grants.c.lease_holder,
    sqlite_where=IS_DOUBTED,
)

# The clock moves states (``queries.time_passed``), and a look each second must cost what it
# moves and not what there is. The conditions and the expression are text, because an index is
# used only by a statement that repeats them word by word. None holds the states of all grants:
# it would be preferred to these, and walk through all that is fresh.
IS_WORKED_ON = text("state IN ('fresh', 'degraded')")
Index(
    "ix_grants_ending",
    grants.c.expires_at,
    sqlite_where=IS_WORKED_ON,
)
WAITS_FOR_A_PERSON = text("state IN ('paused', 'reauthorization_required')")
Index(
    "ix_grants_ended_unnoticed",
    grants.c.expires_at,
    sqlite_where=WAITS_FOR_A_PERSON,
)
IS_DEGRADING = text("state = 'fresh' AND failures > 0")
DEGRADES_AT: ColumnElement[float] = literal_column(
    "expires_at - CASE WHEN expires_at - issued_at <= 120 THEN (expires_at - issued_at) / 4 "
    "WHEN expires_at - issued_at <= 300 THEN 30 "
    "WHEN expires_at - issued_at < 3000 THEN (expires_at - issued_at) / 10 ELSE 300 END",
    Float(),
)
"""When a grant whose refresh fails counts as degraded (``schedule.mandatory_window``)."""
Index(
    "ix_grants_degrading",
    DEGRADES_AT,
    _table=grants,
    sqlite_where=IS_DEGRADING,
)
FAILS_ALONE = text("state = 'fresh' AND fault = 'grant'")
Index(
    "ix_grants_failing_alone",
    grants.c.failing_since,
    sqlite_where=FAILS_ALONE,
)
Index(
    "ix_grants_refresh_token_expires_at",
    grants.c.refresh_token_expires_at,
    sqlite_where=grants.c.refresh_token_expires_at.is_not(None),
)
HAS_WARNING = text("end_warning_at IS NOT NULL")
Index("ix_grants_end_warning_at", grants.c.end_warning_at, sqlite_where=HAS_WARNING)
# What people list, in the order of names (``listing``). A refresh of a fresh grant writes
# neither: it changes no client and no name, and the other one leaves fresh grants out.
NOT_FRESH = text("state <> 'fresh'")
Index(
    "ix_grants_listed_by_state",
    grants.c.state,
    grants.c.name,
    sqlite_where=NOT_FRESH,
)
Index("ix_grants_listed_by_client", grants.c.client, grants.c.name)

state_counts = Table(
    "state_counts",
    metadata,
    Column("state", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""How many grants are in each state; kept by triggers of the database."""

_ONE_MORE = (
    "INSERT INTO state_counts (state, count) VALUES (new.state, 1) "
    "ON CONFLICT (state) DO UPDATE SET count = count + 1;"
)
_ONE_LESS = "UPDATE state_counts SET count = count - 1 WHERE state = old.state;"

_MOVED = "old.state IS NOT new.state"
_TRIGGERS = (
    f"counts_added AFTER INSERT ON grants BEGIN {_ONE_MORE} END",
    f"counts_deleted AFTER DELETE ON grants BEGIN {_ONE_LESS} END",
    f"counts_moved AFTER UPDATE OF state ON grants WHEN {_MOVED} BEGIN {_ONE_LESS} {_ONE_MORE} END",
)
for _trigger in _TRIGGERS:
    event.listen(metadata, "after_create", DDL(f"CREATE TRIGGER {_trigger}"))  # type: ignore[no-untyped-call]  # of SQLAlchemy

adopted_seeds = Table(
    "adopted_seeds",
    metadata,
    Column("client", String(128), primary_key=True),
    Column("fingerprint", LargeBinary(16), primary_key=True),
    Column("grant_name", String(128), nullable=False),
    Column("adopted_at", Float, nullable=False),
)
"""Every seed ever taken, and every refresh token finally rejected: none is taken again by
itself (``spent``)."""

kept_answers = Table(
    "kept_answers",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("grant_uid", String(32), nullable=False),
    Column("grant_name", String(128), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
"""Answers nobody understood (``unreadable``) and answers that came too late (``orphan``)."""
Index("ix_kept_answers_grant_uid", kept_answers.c.grant_uid)

incidents = Table(
    "incidents",
    metadata,
    Column("client", String(128), primary_key=True),
    Column("opened_at", Float, nullable=False),
    Column("count", Integer, nullable=False),
)
"""Clients of which several grants, served before, are refused at the same time."""

revocations = Table(
    "revocations",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("client", String(128), nullable=False),
    Column("grant_name", String(128), nullable=False),
    Column("grant_uid", String(32), nullable=False),
    Column("authorization_serial", BigInteger, nullable=False),
    Column("parked_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("due_at", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("sealed", LargeBinary),
)
"""Authorizations that an operator ended, with the tokens that have still to be revoked at
their server. The row of one that is done stays without tokens until ``ends_at``: a token of
that authorization may still come."""
Index("ix_revocations_authorization", revocations.c.grant_uid, revocations.c.authorization_serial)
Index("ix_revocations_due_at", revocations.c.due_at)
Index(
    "ix_revocations_parked",
    revocations.c.client,
    revocations.c.due_at,
    revocations.c.ends_at,
    sqlite_where=revocations.c.due_at.is_not(None),
)
Index(
    "ix_revocations_listed",
    revocations.c.grant_name,
    sqlite_where=revocations.c.due_at.is_not(None),
)
client_records = Table(
    "client_records",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("client", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    UniqueConstraint("client", "kind"),
)
"""What is known of a client beside its settings: the metadata of its server (``metadata``),
and what its registration brought (``registration``)."""
logins = Table(
    "logins",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("handle", String(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("grant_name", String(128), nullable=False),
    Column("client", String(128), nullable=False),
    Column("state_fingerprint", LargeBinary(16)),
    Column("begun_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("poll_interval", Float),
    Column("due_at", Float),
    Column("sealed", LargeBinary),
)
"""Logins under way, until their ends. The row of one whose code was redeemed holds nothing
sealed any more."""
Index("ix_logins_state_fingerprint", logins.c.state_fingerprint)
Index("ix_logins_ends_at", logins.c.ends_at)
changes = Table(
    "changes",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("at", Float, nullable=False),
    Column("actor", String(16), nullable=False),
    Column("uid", BigInteger),
    Column("pid", BigInteger),
    Column("what", String(32), nullable=False),
    Column("grant_name", String(128)),
    Column("client", String(128)),
    Column("count", BigInteger),
    Column("detail", String(255)),
)
"""The vault's log: who changed what. No secret is in it."""
Index("ix_changes_grant_name", changes.c.grant_name, changes.c.id)
notifications = Table(
    "notifications",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("target", Integer, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("body", String, nullable=False),
)
"""What people are to be told, until somebody has taken it; no secret is in it. A target is the
place of a [[notify]] in the settings."""
Index("ix_notifications_due_at", notifications.c.due_at)
replicas = Table(
    "replicas",
    metadata,
    Column("holder", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("backend_pid", BigInteger),
    Column("backend_started_at", Float),
    Column("backend_server", String(255)),
    Column("reader_pid", BigInteger),
    Column("reader_started_at", Float),
    Column("started_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
    Column("gone_at", Float),
    *(Column(name, String) for name in ("words", "opens", "needs")),
)
"""Who shares this vault with others, each of which keeps its row up to date (``heartbeats``)."""
facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Single values of the vault itself: its identity and its sealed fingerprint key."""
