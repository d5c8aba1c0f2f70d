"""How a vault leaves its file for a database: ``copying`` between the lock and a new name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from refresher.clock import SystemClock
from refresher.domain.secret import Secret
from refresher.errors import VaultError, VaultInUse
from refresher.vault.copying import Copied, Copying
from refresher.vault.database import Database
from refresher.vault.keys import open_fingerprint_key
from refresher.vault.opening import lock_path, migrate_file, migrate_together, prepare
from refresher.vault.postgresql.engine import open_postgresql
from refresher.vault.postgresql.tables import renumber
from refresher.vault.rows import Sealer
from refresher.vault.sealing import Fingerprinter, Keyring
from refresher.vault.sqlite.backup import make_durable, with_its_own
from refresher.vault.sqlite.engine import open_sqlite
from refresher.vault.sqlite.file_lock import FileLock
from refresher.vault.sqlite.files import beside
from refresher.vault.threads import out_of_the_loop


async def move(
    path: Path,
    key_file: Path,
    url: Secret,
    *,
    begin: Callable[[int], None],
    progress: Callable[[int], None],
) -> tuple[Copied, Path]:
    """Move the vault of the file PATH into the database of URL; what was done, and its new name.

    No daemon can have the file meanwhile, and none takes it for a vault afterwards: a refresh
    token that two of them present is lost. The rescue file stays for the next daemon.

    Args:
        begin: is told how many rows are looked at.
        progress: is told of each of them, some at a time.

    Raises:
        VaultError: a daemon runs on it, there is none, or see ``Copying.run``.
        VaultUnavailable: the disk or the database refuses; the same again goes on.
    """
    moved = beside(path, ".moved")
    if not await out_of_the_loop(lambda: path.exists() or moved.exists()):
        raise VaultError(f"there is no vault {path}")
    lock = FileLock(lock_path(path))
    try:
        lock.acquire()
    except VaultInUse as error:
        raise VaultError(f"{error}: stop the daemon first") from error
    source: Database | None = None
    target: Database | None = None
    try:
        # Killed right before its end, it has the new name already.
        file = await out_of_the_loop(lambda: path if path.exists() else moved)
        keyring = await out_of_the_loop(partial(Keyring.load, key_file))
        await out_of_the_loop(partial(prepare, file))
        source = open_sqlite(file)
        await migrate_file(source, file, SystemClock())
        key = await source.write(lambda c: open_fingerprint_key(c, keyring))
        target = await open_postgresql(url)
        await migrate_together(target)
        sealer = Sealer(keyring, Fingerprinter(key))
        copying = Copying(source, target, sealer, progress, renumber)
        begin(await copying.rows())
        copied = await copying.run()
        source.close()
        await out_of_the_loop(partial(_rename, file, moved))
        await copying.end()
    finally:
        for database in (source, target):
            if database is not None:
                database.close()
        lock.release()
    return copied, moved


def _rename(file: Path, moved: Path) -> None:
    for old, new in zip(with_its_own(file), with_its_own(moved), strict=True):
        if old.exists():
            old.rename(new)
    make_durable(moved.parent)
