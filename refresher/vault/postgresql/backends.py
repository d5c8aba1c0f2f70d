"""The connections that replicas have to one database, and which of them have ended.

What serves a connection dies with it, and PostgreSQL shows who lives (``pg_stat_activity``).
So a replica whose process was killed is known to be dead as soon as its kernel has closed its
sockets, and one that is merely silent is not.
"""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.vault.heartbeats import Backend

_SERVER = (
    "concat_ws(' ', inet_server_addr(), inet_server_port(), "
    "extract(epoch FROM pg_postmaster_start_time()))"
)
"""One server, and one life of it: a standby that was promoted is another."""

_OWN = (
    "SELECT pid, extract(epoch FROM backend_start)::float8 AS started_at, "  # noqa: S608  no input
    f"{_SERVER} AS server FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
_THERE = sa.text(
    "SELECT pid, extract(epoch FROM backend_start)::float8 AS started_at, "  # noqa: S608  no input
    f"{_SERVER} AS server FROM pg_stat_activity"
)


class ServerBackends:
    """What PostgreSQL knows of its connections (``leases.Backends``)."""

    def __init__(self) -> None:
        self.reading: Backend | None = None

    def own(self, connection: Connection) -> Backend | None:
        """The backend of CONNECTION; None behind a pooler, which tells a number of its own."""
        told = connection.connection.driver_connection
        assert told is not None
        return _backend(told.info.backend_pid, connection.exec_driver_sql(_OWN).one())

    def reads_over(self, connection: Any) -> None:
        """CONNECTION, psycopg's own, is from now on the one that reads."""
        self.reading = _backend(connection.info.backend_pid, connection.execute(_OWN).fetchone())

    def gone(self, connection: Connection, known: Sequence[Backend]) -> Collection[Backend]:
        """Those of KNOWN that have ended for certain, while their server went on.

        When another user's began nobody is told: it counts as there.
        """
        there = connection.execute(_THERE).all()
        servers = {row.server for row in there}
        living = {(row.pid, row.started_at) for row in there}
        return [
            one
            for one in known
            if one.server in servers and not {(one.pid, one.started_at), (one.pid, None)} & living
        ]


def _backend(told: int, row: Sequence[Any]) -> Backend | None:
    backend = Backend(*row)
    return backend if backend.pid == told else None
