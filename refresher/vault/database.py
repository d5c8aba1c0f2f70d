"""The SQL engine and its group commit.

Statements run in a worker thread: one for writes, one for reads, so that the event loop
never waits for a disk. Writes that gather while one commit is under way share the next.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from refresher.errors import VaultUnavailable

T = TypeVar("T")

LARGEST_BATCH = 256
"""Writes that share one commit at the most: bounds how long the first one waits."""

BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for another process, a backup for example."""


class _Waiting(Generic[T]):
    """One write on its way through a shared commit."""

    def __init__(self, operation: Callable[[Connection], T]) -> None:
        self.operation = operation
        self.is_done = False
        self.error: Exception | None = None
        self.value: T | None = None


class Database:
    """Runs operations (functions of a connection) durably, many to a commit."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self._writer, self._reader = writer, reader
        self._waiting: list[_Waiting[Any]] = []
        self._turn = anyio.Lock()
        self._write_thread = anyio.CapacityLimiter(1)
        self._read_thread = anyio.CapacityLimiter(1)

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run OPERATION in a transaction and return once it is durable.

        Whoever gets the turn commits everything that has gathered; the others find their
        work done. Cancellation waits: a write under way is never half known.

        Raises:
            VaultUnavailable: nothing of it was written, or its commit failed.
            Exception: raised by OPERATION itself, which is rolled back alone.
        """
        mine = _Waiting(operation)
        self._waiting.append(mine)
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if not mine.is_done:
                    batch = self._waiting[:LARGEST_BATCH]
                    del self._waiting[:LARGEST_BATCH]
                    await anyio.to_thread.run_sync(self._commit, batch, limiter=self._write_thread)
        if mine.error is not None:
            raise mine.error
        return mine.value  # type: ignore[return-value]  # None only where T allows it

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run OPERATION against the last committed state.

        Raises:
            VaultUnavailable: the vault cannot be read now.
        """

        def run() -> T:
            try:
                with self._reader.connect() as connection:
                    return operation(connection)
            except DBAPIError as error:
                raise unavailable(error) from error

        return await anyio.to_thread.run_sync(run, limiter=self._read_thread)

    def close(self) -> None:
        """Close both engines; nothing may be under way."""
        self._reader.dispose()
        self._writer.dispose()

    def _commit(self, batch: list[_Waiting[Any]]) -> None:
        try:
            with self._writer.begin() as connection:
                for waiting in batch:
                    _run_alone(connection, waiting)
        except DBAPIError as error:
            for waiting in batch:
                waiting.error = unavailable(error)
                waiting.error.__cause__ = error
        except Exception as error:  # noqa: BLE001  supervision: nobody may believe this commit
            for waiting in batch:
                waiting.error = error
        finally:
            for waiting in batch:
                waiting.is_done = True


def _run_alone(connection: Connection, waiting: _Waiting[Any]) -> None:
    """Run one operation in a savepoint, so that its refusal or its bug undoes nothing else."""
    savepoint = connection.begin_nested()
    try:
        waiting.value = waiting.operation(connection)
    except DBAPIError:
        # The database refuses and has often rolled back by itself, the savepoint included.
        raise
    except Exception as error:  # noqa: BLE001  supervision: it is raised where it was asked for
        savepoint.rollback()
        waiting.error = error
    else:
        savepoint.commit()


def make_folder(path: Path) -> None:
    """Make the vault's folder, for its owner alone, if it is missing.

    Raises:
        VaultUnavailable: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise VaultUnavailable(
            f"the vault's folder {path} cannot be made: {error.strerror}"
        ) from error


def open_sqlite(path: Path) -> Database:
    """Open the SQLite file PATH, made with mode 0600 if missing.

    Raises:
        VaultUnavailable: it cannot be opened or written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise VaultUnavailable(f"the vault {path} cannot be opened: {error.strerror}") from error
    return Database(_sqlite_engine(path, "IMMEDIATE"), _sqlite_engine(path, "DEFERRED"))


def _sqlite_engine(path: Path, mode: str) -> Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred BEGIN lets two writers start and fails one of them late.
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def unavailable(error: DBAPIError) -> VaultUnavailable:
    """What ERROR means for a person; its own text may quote parameters."""
    name = getattr(error.orig, "sqlite_errorname", None) or type(error.orig).__name__
    meaning = {
        "SQLITE_FULL": "the disk is full",
        "SQLITE_READONLY": "the vault is read-only",
        "SQLITE_CANTOPEN": "the vault cannot be opened: check its folder and permissions",
        "SQLITE_BUSY": "another process keeps the vault locked",
        "SQLITE_CORRUPT": "the vault is damaged: restore a backup",
        "SQLITE_NOTADB": "the file is not a vault",
    }
    for prefix, text in meaning.items():
        if name.startswith(prefix):
            return VaultUnavailable(f"{text} ({name})")
    return VaultUnavailable(f"the vault refused ({name})")
