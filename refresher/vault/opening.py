"""How a vault is opened: its lock, its keys, its rescue file and its schema, in that order.

The keys are read under the lock: a standby that takes over knows what its predecessor has
brought in.
"""

from functools import partial
from pathlib import Path

import sqlalchemy as sa

from refresher.clock import Clock, SystemClock
from refresher.logs import Event, emit
from refresher.vault.clock_steps import Following, moved_so_far
from refresher.vault.database import Database
from refresher.vault.keys import open_fingerprint_key
from refresher.vault.migrate import older_revision, upgrade
from refresher.vault.rescue import SPARE_SLOTS, RescueFile
from refresher.vault.rows import Sealer
from refresher.vault.schema import grants
from refresher.vault.sealing import Fingerprinter, Keyring
from refresher.vault.sqlite.backup import write_copy
from refresher.vault.sqlite.engine import make_folder, open_sqlite
from refresher.vault.sqlite.file_lock import FileLock
from refresher.vault.sqlite.files import Files, beside
from refresher.vault.sqlite.restoring import finish, take_up
from refresher.vault.threads import OwnThread, out_of_the_loop
from refresher.vault.vault import Vault


async def open_vault(
    path: Path,
    key_file: Path,
    *,
    answers: int = 1,
    is_daemon: bool = False,
    clock: Clock | None = None,
) -> Vault:
    """Lock, open and migrate the vault PATH, sealed with the keys in KEY_FILE.

    Args:
        answers: how many exchanges can be out at once whose answers may have to be rescued.
        is_daemon: commands that find the vault in use wait for the control socket.
        clock: dates all that is stored; None takes that of this machine.

    Raises:
        VaultInUse: another process has it.
        VaultKeyError: the key is missing, too open, or not this vault's.
        VaultTooNew: a newer refresher wrote it.
        VaultError: it is gone, or what lies beside it is another vault's.
        VaultUnavailable: the disk refuses.
    """
    clock = clock or SystemClock()
    database: Database | None = None
    rescue: RescueFile | None = None
    lock = FileLock(lock_path(path), is_daemon=is_daemon)
    make_folder(path.parent)
    lock.acquire()
    try:
        # What may hang in the disk does not in the loop, where a signal to stop must be heard.
        keyring = await out_of_the_loop(partial(_prepare, path, key_file))
        rescue = RescueFile(
            beside(path, ".rescue"),
            slots=answers + SPARE_SLOTS,
            writer=OwnThread("rescue writer"),
            syncer=OwnThread("rescue syncer"),
        )
        database = open_sqlite(path)
        await _migrate(database, path, clock)
        key = await database.write(lambda c: open_fingerprint_key(c, keyring))
        following = Following(await database.read(moved_so_far))
        files = Files(path, OwnThread("vault files"))
        sealer = Sealer(keyring, Fingerprinter(key))
        vault = Vault(database, sealer, lock, rescue, files, following=following, clock=clock)
        await out_of_the_loop(vault.rescued.open)
        # Whatever is opened is open before it is remembered, and damage is met here: a start
        # reads no row that nothing is to be done about.
        await database.read(lambda c: c.scalar(sa.select(sa.func.max(grants.c.id))))
        files.remember()
    except BaseException:
        if database is not None:
            database.close()
        if rescue is not None:
            rescue.close()
        lock.release()
        raise
    return vault


async def _migrate(database: Database, path: Path, clock: Clock) -> None:
    """Give the vault PATH the schema of this version; a copy of what it was stays beside it.

    An older version refuses what a newer one has migrated: the copy is the only way back.
    """
    older = await database.read(older_revision)
    if older is None:
        await database.write(upgrade)
        return
    copy = beside(path, f".of-{older}")
    await database.on_connection(lambda source: write_copy(source, copy, clock.now()))
    migrated_to = await database.write(upgrade)
    emit(Event.VAULT_MIGRATED, vault=str(path), version=migrated_to, path=str(copy))


def _prepare(path: Path, key_file: Path) -> Keyring:
    """The keys, once the vault PATH may be opened."""
    keyring = Keyring.load(key_file)
    finish(path)
    take_up(path)
    return keyring


def lock_path(path: Path) -> Path:
    """The lock file of the vault PATH."""
    return beside(path, ".lock")
