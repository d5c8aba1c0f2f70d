"""The PostgreSQL of figure 7: a server that keeps what it confirms, and vaults with many grants."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from refresher.vault.migrate import upgrade
from refresher.vault.postgresql.tables import create, renumber
from refresher.vault.schema import grants
from tests.bench.ground import NotMeasured, cpu_seconds
from tests.bench.seeding import KEY, VAULT, Due, copies
from tests.support.postgresql import PrivatePostgres

OPTIONS = {
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}
"""What the tests' server has otherwise, so that it is one that keeps what it confirms."""

TOLD = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "autovacuum")
"""Settings that the output names."""


class Database:
    """One server, with a database for each vault."""

    def __init__(self, server: PrivatePostgres) -> None:
        self._server = server

    @classmethod
    @contextmanager
    def started(cls) -> Iterator["Database"]:
        """A server that runs where this program does, gone afterwards.

        Raises:
            NotMeasured: it does not start.
        """
        server = PrivatePostgres(**OPTIONS)
        try:
            try:
                server.start()
            except AssertionError as error:
                raise NotMeasured(f"no PostgreSQL: {error}") from error
            yield cls(server)
        finally:
            server.end()

    def told(self) -> str:
        """What it is, in one line."""
        wanted = ", ".join(f"current_setting('{name}')" for name in TOLD)
        [values] = self._server.run(f"SELECT {wanted}")
        return "PostgreSQL " + ", ".join(
            f"{name} {value}" for name, value in zip(TOLD, values, strict=True)
        ).removeprefix("server_version ")

    def cpu_seconds(self) -> float:
        """CPU of all its processes so far, those that have ended too."""
        process = self._server.process
        assert process is not None
        main = Path(f"/proc/{process.pid}")
        ended = (main / "stat").read_text().rpartition(")")[2].split()[13:15]
        seconds = cpu_seconds(process.pid) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
        for pid in (main / "task" / str(process.pid) / "children").read_text().split():
            try:
                seconds += cpu_seconds(int(pid))
            except OSError:
                continue  # it has ended since, and is counted the next time
        return seconds

    def written(self) -> int:
        """Bytes of its log ahead (WAL) so far."""
        return int(
            str(self._server.run("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0][0])
        )

    def resident_mib(self) -> float:
        """Memory of all its processes, what they share counted once."""
        process = self._server.process
        assert process is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        kib = 0
        for pid in (str(process.pid), *children):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kib / 1024

    @contextmanager
    def vault(self, template: Path, count: int, due: Due) -> Iterator["SharedVault"]:
        """A vault with COUNT grants that are DUE, sealed with the key of TEMPLATE."""
        name = self._server.new_database()
        try:
            yield SharedVault(self._server.url(name), template, count, due)
        finally:
            self._server.run(f'DROP DATABASE "{name}" WITH (FORCE)')


class SharedVault:
    """One vault in it.

    Args:
        template: a folder whose vault holds the one grant that an import brought.
    """

    def __init__(self, url: str, template: Path, count: int, due: Due) -> None:
        self.url = url
        engine = sa.create_engine(url.replace("://", "+psycopg://"))
        with engine.begin() as connection:
            upgrade(connection, create)
        with psycopg.connect(url, autocommit=True) as filling, filling.transaction():
            self.version = _fill(filling, template, count, due)
        with engine.begin() as connection:
            renumber(connection, ["grants"])
        engine.dispose()
        # Autovacuum does the same, some minutes after so many rows have come.
        self._run("VACUUM (ANALYZE)")
        self._run("CHECKPOINT")

    def make_due(self, count: int, begin: float, seconds: float) -> None:
        """Let the first COUNT grants be due from BEGIN on, over SECONDS; no daemon may run."""
        self._run(
            "UPDATE grants SET due_at = %s + (id - 1) * %s WHERE id <= %s",
            *(begin, seconds / count, count),
        )
        self._run("CHECKPOINT")

    def bytes(self) -> int:
        """What it takes on the disk, without the log of the server."""
        return int(self._run("SELECT pg_database_size(current_database())")[0][0])

    def _run(self, statement: str, *values: object) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []


def _fill(connection: psycopg.Connection[Any], template: Path, count: int, due: Due) -> int:
    """Copy the facts of TEMPLATE, and COUNT grants; the version that each of them has.

    Indexes are made afterwards, and no trigger counts row by row: that takes a third.
    """
    connection.execute("SET session_replication_role = replica")
    made = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'grants' "
        "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
    ).fetchall()
    for name, _ in made:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    with closing(sqlite3.connect(template / VAULT)) as source:
        for fact in source.execute("SELECT name, value FROM facts"):
            connection.execute("INSERT INTO facts (name, value) VALUES (%s, %s)", fact)
        first, rows = copies(source, template / KEY, count, due)
        names = [column.name for column in grants.c]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        copying = sql.SQL("COPY grants ({}) FROM STDIN").format(columns)
        with connection.cursor() as cursor, cursor.copy(copying) as copied:
            for row in rows:
                copied.write_row([row[name] for name in names])
    connection.execute(
        "INSERT INTO state_counts (state, count) SELECT state, count(*) FROM grants GROUP BY state"
    )
    connection.execute(
        "INSERT INTO adopted_seeds (client, fingerprint, grant_name, adopted_at) "
        "SELECT client, refresh_token_fingerprint, name, since FROM grants"
    )
    for _, definition in made:
        connection.execute(definition.encode())
    return int(first["version"])
