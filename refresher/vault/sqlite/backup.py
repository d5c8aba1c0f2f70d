"""Copying a vault while a daemon works on it.

SQLite's online backup reads one consistent state page by page and needs no lock of ours.
The copy is as sealed as the vault: it opens only with the vault's key, which is not in it.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from sqlalchemy import delete

from refresher.errors import VaultError, VaultUnavailable
from refresher.files import ABSENT, open_to_read
from refresher.vault.clock_steps import RESTORED_FROM, fact, set_fact
from refresher.vault.rows import Transaction
from refresher.vault.schema import facts

COPIED_AT = "copied_at"
"""Fact of a copy: when it was made."""

UNTOLD = "restored_untold"
"""The same fact of a copy that has become a vault, until that is told."""

PAGES_AT_ONCE = 1_000
"""Pages copied before others get their turn: 4 MB."""


def back_up(vault: Path, copy: Path, now: float) -> int:
    """Copy the SQLite file VAULT to COPY, durably; give back its size in bytes.

    The copy says that it is one and of which instant, so that whoever opens it as a vault
    knows that the world has gone on (``take_copied_at``).

    Raises:
        VaultError: COPY exists, or there is no vault.
        VaultUnavailable: the disk refuses.
    """
    try:
        os.close(open_to_read(vault))
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise VaultError(f"there is no vault {vault}") from error
        raise VaultUnavailable(f"the vault {vault} {error}") from error
    if os.path.lexists(copy):
        raise VaultError(f"{copy} exists: a backup is never overwritten")
    try:
        opened = sqlite3.connect(f"{vault.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(opened) as source:
            write_copy(source, copy, now)
    except sqlite3.Error as error:
        raise VaultUnavailable(f"the vault {vault} cannot be read: {_told(error)}") from error
    return copy.stat().st_size


def write_copy(source: sqlite3.Connection, copy: Path, copied_at: float) -> None:
    """Write what SOURCE reads to the file COPY, durably: whole under its name, or not at all.

    Raises:
        VaultUnavailable: the disk refuses.
    """
    unfinished = copy.with_name(copy.name + ".unfinished")
    try:
        for left in with_its_own(unfinished):
            left.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CLOEXEC | ABSENT, 0o600))
        with contextlib.closing(sqlite3.connect(unfinished)) as target:
            source.backup(target, pages=PAGES_AT_ONCE)
            with target:
                values = (COPIED_AT, repr(copied_at).encode())
                target.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", values)
        make_durable(unfinished)
        unfinished.rename(copy)
        make_durable(copy.parent)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):  # the next one removes what a disk keeps now
            for left in with_its_own(unfinished):
                left.unlink(missing_ok=True)
        raise VaultUnavailable(f"the copy {copy} cannot be written: {_told(error)}") from error


def with_its_own(file: Path) -> list[Path]:
    """The SQLite file FILE, and what SQLite keeps beside it."""
    return [file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))]


def take_copied_at(tx: Transaction) -> tuple[float | None, bool]:
    """When the copy was made that this vault is, if it is one, and whether that is news."""
    copied_at = fact(tx, UNTOLD)
    if copied_at is not None:
        tx.connection.execute(delete(facts).where(facts.c.name == UNTOLD))
        set_restored_from(tx, float(copied_at))
        return float(copied_at), True
    known = fact(tx, RESTORED_FROM)
    return None if known is None else float(known), False


def set_restored_from(tx: Transaction, instant: float) -> None:
    """Note that this vault is a copy of what it was at INSTANT."""
    set_fact(tx, RESTORED_FROM, repr(instant))


def _told(error: OSError | sqlite3.Error) -> str:
    known = getattr(error, "strerror", None) or getattr(error, "sqlite_errorname", None)
    return known or "refused"


def make_durable(path: Path) -> None:
    """Have what was written to PATH, a file or a folder, outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
