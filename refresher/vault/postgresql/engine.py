"""How a vault in PostgreSQL is reached: its connections, and how their transactions behave.

Behind PgBouncer with transaction pooling each transaction may be another session's. So there
are no prepared statements here, no settings of a session and no locks of one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from refresher.domain.secret import Secret
from refresher.errors import VaultError
from refresher.vault.database import OTHERS_WRITE, Database
from refresher.vault.postgresql.backends import ServerBackends
from refresher.vault.threads import OwnThread

DEFAULTS = {
    "application_name": "refresher",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
}
"""Options of libpq where the URL says nothing: a server that is gone is noticed within some
10 s, and of several hosts the one counts that takes writes."""

STATEMENT_TIMEOUT = "15s"
LOCK_TIMEOUT = "5s"
IDLE_TIMEOUT = "12s"
"""How long a transaction whose process was stopped keeps its rows from the other replicas. Longer
than ``leases.VANISHED_WITHIN``: whose connection ends of this is stopped, and may go on."""

_WRITES = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    "SET LOCAL synchronous_commit = on; "
    f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'; "
    f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'"
)
_READS = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'"
)


async def open_postgresql(url: Secret, backends: ServerBackends | None = None) -> Database:
    """Reach the database of URL, a libpq one.

    Args:
        backends: learns of each new connection that reads.

    Raises:
        VaultError: psycopg is missing, URL is none, or the database is not of UTF-8.
        VaultUnavailable: it cannot be reached.
    """
    options = _options(url)
    database = Database(
        _engine(options, _WRITES, {OTHERS_WRITE: True}),
        _engine(options, _READS, {}, None if backends is None else backends.reads_over),
        write_thread=OwnThread("vault writer"),
        read_thread=OwnThread("vault reader"),
        open_another=partial(_engine, options, _READS, {}),
        size=_size,
        is_shared=True,
    )
    try:
        encoding = await database.read(lambda c: c.exec_driver_sql("SHOW server_encoding").scalar())
    except BaseException:
        database.close()
        raise
    if encoding != "UTF8":
        database.close()
        raise VaultError(
            f"the database of vault.url has the encoding {encoding}: make one with "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    return database


def _size(connection: Connection) -> int:
    """Bytes of the largest table, its indexes included."""
    found = connection.exec_driver_sql("SELECT pg_total_relation_size('grants')").scalar()
    return int(found or 0)


def _options(url: Secret) -> dict[str, Any]:
    try:
        from psycopg import ProgrammingError  # noqa: PLC0415  an extra brings it
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415  same
    except ImportError as error:
        raise VaultError(
            "a vault in PostgreSQL needs psycopg: pip install 'refresher[postgresql]'"
        ) from error
    try:
        return {**DEFAULTS, **conninfo_to_dict(url.reveal())}
    except ProgrammingError:
        # Not chained: the error carries what it failed on.
        raise VaultError(
            "vault.url cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
            "/ ? # : and @ percent-encoded in user and password (PostgreSQL manual, 32.1.1.2)"
        ) from None


def _engine(
    options: dict[str, Any],
    begin: str,
    execution: dict[str, Any],
    reached: Callable[[Any], None] | None = None,
) -> Engine:
    from refresher.vault.postgresql.connection import VaultConnection  # noqa: PLC0415  an extra's
    from refresher.vault.postgresql.dialect import NAME  # noqa: PLC0415  same

    engine = sa.create_engine(
        f"postgresql+{NAME}://",
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        execution_options=execution,
    )
    dialect: Any = engine.dialect
    dialect.begin = begin

    @sa.event.listens_for(engine, "do_connect")
    def reach(_dialect: object, _record: object, _: object, known: dict[str, Any]) -> Any:
        connection = VaultConnection.connect(
            "", autocommit=True, prepare_threshold=None, **options, **known
        )
        if reached is not None:
            reached(connection)
        return connection

    return engine
