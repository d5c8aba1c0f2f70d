"""The SQL engine and its group commit.

Statements run in two threads of their own, one for writes and one for reads, so that the
event loop never waits for a disk. Writes that gather while one commit is under way share
the next.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from refresher import files
from refresher.errors import VaultUnavailable
from refresher.files import faults_of_own_folder, opened_to_write
from refresher.vault.outage import Outage
from refresher.vault.refusals import is_of_one_row, opening_refused, unavailable
from refresher.vault.threads import OwnThread, Thread

T = TypeVar("T")

LARGEST_BATCH = 256
"""Writes that share one commit at the most: bounds how long the first one waits."""

BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for another process, a backup for example."""

HANGS_AFTER = 2.5
"""Seconds a write waits before the vault counts as refusing."""

CLOSED_WITHIN = 5.0
"""Seconds to wait at the end for a statement under way; a disk that hangs longer keeps it."""


class _Settled(Generic[T]):
    """What comes of something that a thread does."""

    def __init__(self) -> None:
        self.settled = anyio.Event()
        self.is_done = False
        """Whether it took effect: of a write, whether its commit has returned."""
        self.error: Exception | None = None
        self.value: T | None = None

    def settle(self, error: BaseException | None) -> None:
        """Let its caller know; whatever has not been done by now has failed with ERROR."""
        if not self.is_done and self.error is None:
            reason = "no answer" if error is None else type(error).__name__
            self.error = VaultUnavailable(f"the vault's thread failed ({reason})")
            self.error.__cause__ = error
        self.settled.set()

    def result(self) -> T:
        """What came of it."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only where T allows it


class _Waiting(_Settled[T]):
    """One operation on its way through a thread."""

    def __init__(self, operation: Callable[[Connection], T]) -> None:
        super().__init__()
        self.operation = operation


class Database:
    """Runs operations (functions of a connection) durably, many to a commit."""

    def __init__(
        self, writer: Engine, reader: Engine, *, write_thread: Thread, read_thread: Thread
    ) -> None:
        self._writer, self._reader = writer, reader
        self._write_thread, self._read_thread = write_thread, read_thread
        self._waiting: list[_Waiting[Any]] = []
        self._under_way: list[_Waiting[Any]] = []
        self._is_abandoned = False
        self.outage = Outage()

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run OPERATION in a transaction and return once it is durable.

        Cancellation waits: a write under way is never half known.

        Raises:
            VaultUnavailable: nothing of it was written, or nobody knows whether it was.
            Exception: raised by OPERATION itself, which is rolled back alone.
        """
        mine = _Waiting(operation)
        if self._is_abandoned:
            raise _abandoned()
        self._waiting.append(mine)
        self._commit_next()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(HANGS_AFTER):
                await mine.settled.wait()
            if not mine.settled.is_set():
                self.outage.met(self, f"the vault has not answered for {HANGS_AFTER:g} s")
                await mine.settled.wait()
        return mine.result()

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run OPERATION against the last committed state.

        Raises:
            VaultUnavailable: the vault cannot be read now.
        """
        mine = _Waiting(operation)
        if self._is_abandoned:
            raise _abandoned()
        self._read_thread.submit(lambda: self._look(mine), mine.settle)
        await mine.settled.wait()
        return mine.result()

    async def on_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run WORK on the open connection that writes, outside of transactions.

        Everything handed over before is written first.

        Raises:
            VaultUnavailable: SQLite or the disk refuses.
        """
        with suppress(VaultUnavailable):  # what refuses a write may still be read
            await self.write(lambda _: None)
        done = _Settled[T]()

        def run() -> None:
            pooled = self._writer.raw_connection()
            try:
                assert isinstance(pooled.driver_connection, sqlite3.Connection)
                done.value = work(pooled.driver_connection)
                done.is_done = True
            except Exception as error:  # noqa: BLE001  it is raised where it was asked for
                done.error = error
            finally:
                pooled.close()

        self._write_thread.submit(run, done.settle)
        await done.settled.wait()
        return done.result()

    def abandon(self) -> None:
        """Let nobody wait any longer: the process ends, and the disk may hang for ever.

        What is under way may still take effect, as with any process that dies.
        """
        self._is_abandoned = True
        for waiting in (*self._under_way, *self._waiting):
            waiting.error = _abandoned()
            waiting.settle(None)
        self._waiting.clear()

    def close(self) -> bool:
        """Close both engines; whether that was possible.

        A connection in which a thread hangs cannot be closed: it ends with the process.
        """
        ended = [thread.end(CLOSED_WITHIN) for thread in (self._write_thread, self._read_thread)]
        if not all(ended):
            return False
        self._reader.dispose()
        self._writer.dispose()
        return True

    def _commit_next(self) -> None:
        """Let the thread commit what has gathered, unless it is at work."""
        if self._under_way or not self._waiting:
            return
        if self._is_abandoned:
            self.abandon()
            return
        batch = self._under_way = self._waiting[:LARGEST_BATCH]
        del self._waiting[:LARGEST_BATCH]

        def ended(error: BaseException | None) -> None:
            self._under_way = []
            if error is None and any(waiting.is_done for waiting in batch):
                self.outage.over(self)
            # First whoever waits for the next commit, then those who may add to the one after.
            self._commit_next()
            for waiting in batch:
                waiting.settle(error)

        try:
            self._write_thread.submit(lambda: self._commit(batch), ended)
        except Exception as error:  # noqa: BLE001  everyone in it must hear of the failure
            ended(error)

    def _commit(self, batch: list[_Waiting[Any]]) -> None:
        """Commit BATCH; one write that spoils it for the others is committed apart."""
        try:
            with self._writer.begin() as connection:
                for waiting in batch:
                    _run_alone(connection, waiting)
        except DBAPIError as error:
            if len(batch) > 1 and is_of_one_row(error):
                for waiting in batch:
                    waiting.error = None
                    self._commit([waiting])
                return
            for waiting in batch:
                waiting.error = unavailable(error)
                waiting.error.__cause__ = error
            return
        for waiting in batch:
            waiting.is_done = waiting.error is None

    def _look(self, waiting: _Waiting[Any]) -> None:
        try:
            with self._reader.connect() as connection:
                waiting.value = waiting.operation(connection)
        except DBAPIError as error:
            waiting.error = unavailable(error)
            waiting.error.__cause__ = error
        except Exception as error:  # noqa: BLE001  it is raised where it was asked for
            waiting.error = error
        else:
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


def _abandoned() -> VaultUnavailable:
    return VaultUnavailable("the process ends while the vault does not answer")


def make_folder(path: Path) -> None:
    """Make the vault's folder, for its owner alone, if it is missing.

    Raises:
        VaultUnavailable: it cannot be made, or others can put their own files there.
    """
    try:
        files.make_folder(path)
        faults = faults_of_own_folder(path)
    except OSError as error:
        raise opening_refused(f"the vault's folder {path} cannot be made", error) from error
    if faults:
        raise VaultUnavailable(f"others can change the vault's folder: {faults[0].text}")


def open_sqlite(path: Path) -> Database:
    """Open the SQLite file PATH, made with mode 0600 if missing.

    Raises:
        VaultUnavailable: it cannot be opened or written.
    """
    try:
        os.close(opened_to_write(path))
    except (OSError, ValueError) as error:
        raise opening_refused(f"the vault {path} cannot be opened", error) from error
    return Database(
        _sqlite_engine(path, "IMMEDIATE"),
        _sqlite_engine(path, "DEFERRED"),
        write_thread=OwnThread("vault writer"),
        read_thread=OwnThread("vault reader"),
    )


def open_reader(path: Path) -> Engine:
    """One more connection to the SQLite file PATH, for reads that take long; it makes no file."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, check_same_thread=False),
        poolclass=sa.pool.QueuePool,
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
    )
    return _prepared(engine, "DEFERRED")


def _sqlite_engine(path: Path, mode: str) -> Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    return _prepared(engine, mode)


def _prepared(engine: Engine, mode: str) -> Engine:
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
