"""Putting a backup in the vault's place, with everything that belongs to it.

SQLite replays a ``-wal`` that it finds beside a file, whichever file that is. So a backup
is written whole under a name of its own first (``.restored``), and from then on the restore
is decided: whoever opens the vault next, the command itself or a daemon after a kill, moves
what is in its place aside, together, and gives it its name. The rescue file stays:
what is in it goes through the commit rule, and may be newer than the backup.

A backup that was copied to its place by hand is recognised by its mark, which the vault
takes out of the file itself before it first writes a ``-wal``.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from refresher.errors import VaultError, VaultTooNew, VaultUnavailable
from refresher.times import written
from refresher.vault.clock_steps import MARK
from refresher.vault.keys import FINGERPRINT_KEY
from refresher.vault.migrate import known_revisions
from refresher.vault.origin import counter_path
from refresher.vault.sealing import FIRST_FORMAT, Keyring, Place
from refresher.vault.sqlite.backup import COPIED_AT, UNTOLD, make_durable, with_its_own, write_copy
from refresher.vault.sqlite.files import beside


@dataclass(frozen=True, slots=True)
class Backup:
    """What is known of a file that may be restored."""

    file: Path
    copied_at: float
    """The instant of which it is, in unix seconds."""
    refreshable: int
    """Grants in it that hold a refresh token."""


def examine(file: Path, vault: Path, keyring: Keyring) -> Backup:
    """Read the backup FILE, which is to be put in the place of VAULT.

    Raises:
        VaultError: it is no vault, damaged, or VAULT itself.
        VaultKeyError: no key of KEYRING opens it.
        VaultTooNew: a newer refresher wrote it.
    """
    try:
        if vault.exists() and file.samefile(vault) and _copied_at(file) is None:
            raise VaultError(f"{file} is the vault itself, and no backup")
        with _reading(file) as source:
            return _examine(file, source, keyring)
    except OSError as error:
        raise VaultError(f"{file} cannot be read: {error.strerror}") from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        what = "is no vault" if name in {"SQLITE_NOTADB", "SQLITE_ERROR"} else "cannot be read"
        raise VaultError(f"{file} {what} ({name})") from error


def stage(backup: Backup, vault: Path) -> None:
    """Write BACKUP beside VAULT, whole and durably: the restore is decided with that.

    Raises:
        VaultUnavailable: the disk refuses, and nothing has changed.
    """
    with _reading(backup.file) as source:
        write_copy(source, _staged(_real(vault)), backup.copied_at)


def finish(vault: Path) -> Path | None:
    """Put what was staged in the place of VAULT; the caller holds its lock.

    It may be killed anywhere and is done again from its beginning.

    Returns:
        The name of the vault that was there; None where none was, or nothing is staged.

    Raises:
        VaultUnavailable: the disk refuses.
    """
    vault = _real(vault)
    staged = _staged(vault)
    try:
        decided_at = staged.lstat().st_mtime  # the same however often it is done again
    except OSError:
        return None
    aside = beside(vault, f".before-{_stamp(decided_at)}")
    try:
        for file, name in zip(with_its_own(vault), with_its_own(aside), strict=True):
            if os.path.lexists(file):
                file.rename(name)
        make_durable(vault.parent)
        staged.rename(vault)
        make_durable(vault.parent)
    except OSError as error:
        raise VaultUnavailable(f"{vault} cannot be restored: {error.strerror}") from error
    return aside if aside.exists() else None


def take_up(vault: Path) -> None:
    """See that VAULT may be opened; a backup in its place gets ready to be written.

    Raises:
        VaultError: it is gone, was moved, or there is a ``-wal`` beside it that is not its own.
        VaultUnavailable: the disk refuses.
    """
    vault = _real(vault)
    if _size(vault) == 0:
        if (moved := beside(vault, ".moved")).exists():
            raise VaultError(
                f"the vault {vault} was moved into a database, and {moved} is what it was: set "
                "vault.url"
            )
        if counter_path(vault).exists():
            raise VaultError(
                f"the vault {vault} is gone, and {counter_path(vault)} says that there was one: "
                "`refresher vault restore FILE` puts a backup in its place; to begin a new vault "
                "remove that file"
            )
        return
    copied_at = _copied_at(vault)
    if copied_at is None:
        return
    wal = beside(vault, "-wal")
    if _size(wal):
        raise VaultError(
            f"{vault} is a backup of {written(copied_at)}, and {wal} beside it is not its own: "
            f"`refresher vault restore {vault}` puts that aside"
        )
    try:
        with contextlib.closing(sqlite3.connect(vault, isolation_level=None)) as connection:
            # Into the file itself: from here on a ``-wal`` beside it is its own.
            [mode] = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            if mode != "delete":
                raise VaultUnavailable(f"another process keeps the vault {vault} open")
            connection.execute("UPDATE facts SET name = ? WHERE name = ?", (UNTOLD, COPIED_AT))
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "refused")
        raise VaultUnavailable(f"the vault {vault} cannot be opened ({name})") from error


@contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    """FILE, as it is by itself; with its ``-wal`` only where that may be its own.

    Alone it is read without a lock, so that a backup may lie on a disk that cannot be written.
    """
    by_itself = not _size(beside(file, "-wal")) or _copied_at(file) is not None
    uri = f"{file.absolute().as_uri()}?{'immutable=1' if by_itself else 'mode=ro'}"
    file.stat()
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        yield connection


def _examine(file: Path, source: sqlite3.Connection, keyring: Keyring) -> Backup:
    facts = dict(source.execute("SELECT name, value FROM facts"))
    [[revision]] = source.execute("SELECT version_num FROM alembic_version")
    if revision not in known_revisions():
        raise VaultTooNew(f"{file} was written by a newer refresher (schema {revision})")
    if FINGERPRINT_KEY not in facts:
        raise VaultError(f"{file} is no vault")
    keyring.accepts_first = facts[FINGERPRINT_KEY][:1] == FIRST_FORMAT
    keyring.open(facts[FINGERPRINT_KEY], Place("vault", FINGERPRINT_KEY))
    [[verdict]] = source.execute("PRAGMA integrity_check(1)")
    if verdict != "ok":
        raise VaultError(f"{file} is damaged: take another backup")
    held = "SELECT count(*) FROM grants WHERE refresh_token_sealed IS NOT NULL"
    [[refreshable]] = source.execute(held)
    return Backup(file, _instant(file, facts), refreshable)


def _instant(file: Path, facts: dict[str, bytes]) -> float:
    """Of which instant FILE is: by its mark, else by when it was last open or written."""
    with contextlib.suppress(KeyError, ValueError):
        return float(facts[COPIED_AT])
    with contextlib.suppress(KeyError, ValueError, TypeError, LookupError):
        return float(json.loads(facts[MARK])[0])
    return file.stat().st_mtime


def _copied_at(file: Path) -> float | None:
    """The mark in FILE itself, whatever lies beside it; None where it has none.

    Never of a file that this process has open: closing it would drop the process's locks.
    """
    uri = f"{file.absolute().as_uri()}?immutable=1"
    found = "SELECT value FROM facts WHERE name = ?"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            row = connection.execute(found, (COPIED_AT,)).fetchone()
            return None if row is None else float(row[0])
    except (sqlite3.Error, ValueError):
        return None  # damaged, or no vault: whoever opens it says so


def _real(vault: Path) -> Path:
    """Where SQLite works: behind every link."""
    return Path(os.path.realpath(vault))


def _staged(vault: Path) -> Path:
    return beside(vault, ".restored")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _stamp(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
