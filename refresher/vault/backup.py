"""Copying a vault while a daemon works on it.

SQLite's online backup reads one consistent state page by page and needs no lock of ours.
The copy is as sealed as the vault: it opens only with the vault's key, which is not in it.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from sqlalchemy import delete, insert, select

from refresher.errors import VaultError, VaultUnavailable
from refresher.files import ABSENT, open_to_read
from refresher.vault.rows import Transaction
from refresher.vault.schema import facts

COPIED_AT = "copied_at"
RESTORED_FROM = "restored_from"
"""Facts: of a copy, when it was made; of a vault, that it was one."""

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
    unfinished = copy.with_name(copy.name + ".unfinished")
    is_made = False
    try:
        unfinished.unlink(missing_ok=True)  # of a backup that was killed, or planted
        os.close(os.open(unfinished, os.O_WRONLY | ABSENT, 0o600))
        is_made = True
        with (
            contextlib.closing(sqlite3.connect(f"file:{vault}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(unfinished)) as target,
        ):
            source.backup(target, pages=PAGES_AT_ONCE)
            with target:
                values = (COPIED_AT, repr(now).encode())
                target.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", values)
        _make_durable(unfinished)
        unfinished.rename(copy)
        _make_durable(copy.parent)
    except (OSError, sqlite3.Error) as error:
        if is_made:
            unfinished.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or getattr(error, "sqlite_errorname", "refused")
        raise VaultUnavailable(f"the backup {copy} cannot be written: {reason}") from error
    return copy.stat().st_size


def take_copied_at(tx: Transaction) -> tuple[float | None, bool]:
    """When the copy was made that this vault is, if it is one, and whether that is news."""
    connection = tx.connection
    copied_at = connection.scalar(select(facts.c.value).where(facts.c.name == COPIED_AT))
    if copied_at is not None:
        connection.execute(delete(facts).where(facts.c.name.in_([COPIED_AT, RESTORED_FROM])))
        connection.execute(insert(facts).values(name=RESTORED_FROM, value=copied_at))
        return float(copied_at), True
    known = connection.scalar(select(facts.c.value).where(facts.c.name == RESTORED_FROM))
    return None if known is None else float(known), False


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
