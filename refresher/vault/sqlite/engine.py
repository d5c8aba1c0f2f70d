"""How an SQLite vault is opened: its folder, its file, and how its connections behave."""

import os
import sqlite3
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from refresher import files
from refresher.errors import VaultUnavailable
from refresher.files import faults_of_own_folder, opened_to_write
from refresher.vault.database import Database
from refresher.vault.sqlite.files import beside
from refresher.vault.sqlite.refusals import opening_refused
from refresher.vault.threads import OwnThread

BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for another process, a backup for example."""


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
        open_another=partial(open_reader, path),
        size=lambda _: _size(path),
    )


def _size(path: Path) -> int:
    """Bytes on the disk; files are looked at and never opened (``files``)."""
    wal = beside(path, "-wal")
    return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)


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
