"""The one disk: an SQLite database in memory that can refuse, or lose an acknowledgement.

The real ``Database`` with its group commit, savepoints and rollbacks runs on it. Faults
strike where a disk has them: at BEGIN, and at COMMIT after it took effect.
"""

import sqlite3
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from refresher.vault.database import Database
from refresher.vault.keys import open_fingerprint_key
from refresher.vault.schema import metadata
from refresher.vault.sealing import Keyring
from refresher.vault.threads import Thread

_COMPILED: Any = {}
"""Statements compiled once for all worlds."""


class Fault(Enum):
    """What the disk does to the next transaction."""

    REFUSE = auto()
    """It takes nothing."""
    FORGET = auto()
    """It commits and reports an error all the same."""


class _Connection(sqlite3.Connection):
    """A connection whose commit may succeed and say that it failed."""

    forgets = False
    has_forgotten = False

    def commit(self) -> None:
        super().commit()
        if self.forgets:
            self.forgets, self.has_forgotten = False, True
            raise _failure("the acknowledgement was lost")


class Disk:
    """What all processes of a world share, and what outlives them."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.struck: Fault | None = None
        self.connection = sqlite3.connect(":memory:", factory=_Connection, isolation_level=None)
        self._writer, self._reader = self._engine("IMMEDIATE"), self._engine("DEFERRED")
        metadata.create_all(self._writer)

    def database(self, thread: Thread) -> Database:
        """One process's way to the disk, a visit to which takes THREAD."""
        return Database(self._writer, self._reader, write_thread=thread, read_thread=thread)

    def seal(self, keyring: Keyring) -> None:
        """Let KEYRING seal what is in this vault."""
        with self._writer.begin() as connection:
            open_fingerprint_key(connection, keyring)

    def moved(self) -> float:
        """See ``clock_steps.moved_so_far``; read where no fault strikes."""
        found = self.connection.execute("SELECT value FROM facts WHERE name = 'clock_moved'")
        return float((found.fetchone() or (0,))[0])

    def arm(self, fault: Fault | None) -> None:
        """Let FAULT strike the next transaction."""
        self.fault, self.struck = fault, None
        self.connection.forgets, self.connection.has_forgotten = fault is Fault.FORGET, False

    def disarm(self) -> Fault | None:
        """End the fault; give back what struck."""
        if self.connection.has_forgotten:
            self.struck = Fault.FORGET
        self.fault, self.connection.forgets = None, False
        return self.struck

    def close(self) -> None:
        """End the world's database."""
        self._reader.dispose()
        self._writer.dispose()
        self.connection.close()

    def _engine(self, mode: str) -> Engine:
        engine = sa.create_engine(
            "sqlite://", poolclass=StaticPool, creator=lambda: self.connection
        ).execution_options(compiled_cache=_COMPILED)

        @sa.event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            if self.fault is Fault.REFUSE:
                self.struck = Fault.REFUSE
                raise OperationalError("BEGIN", None, _failure("the disk is full"))
            connection.exec_driver_sql(f"BEGIN {mode}")

        return engine


def _failure(text: str) -> sqlite3.OperationalError:
    return sqlite3.OperationalError(text)
