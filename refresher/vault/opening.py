"""How a vault is opened: its lock, its keys, its rescue file and its schema, in that order.

The keys are read under the lock: a standby that takes over knows what its predecessor has
brought in. A vault in PostgreSQL has a lock too, on the files of one replica.
"""

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.clock import Clock, SystemClock, elapsed
from refresher.domain.secret import Secret
from refresher.logs import Event, emit
from refresher.vault.clock_steps import Following, moved_so_far
from refresher.vault.copying import refuse_unfinished
from refresher.vault.database import Database
from refresher.vault.keys import open_fingerprint_key
from refresher.vault.migrate import is_current, older_revision, upgrade
from refresher.vault.postgresql.backends import ServerBackends
from refresher.vault.postgresql.engine import open_postgresql
from refresher.vault.postgresql.server_clock import ServerClock
from refresher.vault.postgresql.tables import create, wait_for_turn
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
    url: Secret | None = None,
    answers: int = 1,
    is_daemon: bool = False,
    clock: Clock | None = None,
) -> Vault:
    """Lock, open and migrate the vault PATH, sealed with the keys in KEY_FILE.

    Args:
        url: of the PostgreSQL database that the vault lies in. PATH then only names the files
            that belong to this process: its lock, its rescue file, its counter.
        answers: how many exchanges can be out at once whose answers may have to be rescued.
        is_daemon: commands that find the vault in use wait for the control socket.
        clock: dates all that is stored; None takes that of this machine, or of the database's.

    Raises:
        VaultInUse: another process has it, or PATH.
        VaultKeyError: the key is missing, too open, or not this vault's.
        VaultTooNew: a newer refresher wrote it.
        VaultError: it is gone, or what lies beside it is another vault's.
        VaultUnavailable: the disk or the database refuses.
    """
    database: Database | None = None
    rescue: RescueFile | None = None
    backends: ServerBackends | None = None
    lock = FileLock(lock_path(path), is_daemon=is_daemon)
    make_folder(path.parent)
    lock.acquire()
    try:
        # What may hang in the disk does not in the loop, where a signal to stop must be heard.
        keyring = await out_of_the_loop(partial(Keyring.load, key_file))
        if url is None:
            await out_of_the_loop(partial(prepare, path))
        rescue = RescueFile(
            beside(path, ".rescue"),
            slots=answers + SPARE_SLOTS,
            writer=OwnThread("rescue writer"),
            syncer=OwnThread("rescue syncer"),
        )
        measure_clock: Callable[[], Awaitable[None]] | None = None
        if url is None:
            database, clock = open_sqlite(path), clock or SystemClock()
            await migrate_file(database, path, clock)
        else:
            backends = ServerBackends()
            database = await open_postgresql(url, backends)
            if clock is None:
                clock = server_clock = ServerClock(SystemClock(), elapsed)
                measure_clock = partial(server_clock.measure, database)
                await measure_clock()
            await migrate_together(database)
            await database.read(refuse_unfinished)
        key = await database.write(lambda c: open_fingerprint_key(c, keyring))
        following = Following(await database.read(moved_so_far))
        files = Files(path, OwnThread("vault files"), is_vault=url is None)
        sealer = Sealer(keyring, Fingerprinter(key))
        vault = Vault(
            *(database, sealer, lock, rescue, files),
            following=following,
            clock=clock,
            measure_clock=measure_clock,
            name=socket.gethostname(),
            backends=backends,
        )
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


async def migrate_file(database: Database, path: Path, clock: Clock) -> None:
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


async def migrate_together(database: Database) -> None:
    """Give a vault that is shared the schema of this version, one process after the other.

    No copy is made: what pg_dump, or the database's own backups, keep is the way back.
    """

    def migrate(connection: Connection) -> tuple[str | None, str]:
        wait_for_turn(connection)
        older = older_revision(connection)
        return older, upgrade(connection, create)

    if await database.read(is_current):
        return
    older, migrated_to = await database.write(migrate)
    if older is not None:
        emit(Event.VAULT_MIGRATED, vault="postgresql", version=migrated_to)


def prepare(path: Path) -> None:
    """See that the vault PATH may be opened."""
    finish(path)
    take_up(path)


def lock_path(path: Path) -> Path:
    """The lock file of the vault PATH."""
    return beside(path, ".lock")
