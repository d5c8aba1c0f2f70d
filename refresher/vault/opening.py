"""How a vault is opened: its lock, its keys, its rescue file and its schema, in that order.

The keys are read under the lock: a standby that takes over knows what its predecessor has
brought in.
"""

from pathlib import Path

from refresher.logs import Event, emit
from refresher.vault.database import Database, make_folder, open_sqlite
from refresher.vault.file_lock import FileLock
from refresher.vault.keys import open_fingerprint_key
from refresher.vault.migrate import upgrade
from refresher.vault.rescue import SPARE_SLOTS, RescueFile
from refresher.vault.rows import Sealer
from refresher.vault.sealing import Fingerprinter, Keyring
from refresher.vault.threads import OwnThread
from refresher.vault.vault import Vault


async def open_vault(path: Path, key_file: Path, *, answers: int = 1) -> Vault:
    """Lock, open and migrate the vault PATH, sealed with the keys in KEY_FILE.

    Args:
        answers: how many exchanges can be out at once whose answers may have to be rescued.

    Raises:
        VaultInUse: another process has it.
        VaultKeyError: the key is missing, too open, or not this vault's.
        VaultTooNew: a newer refresher wrote it.
        VaultUnavailable: the disk refuses.
    """
    database: Database | None = None
    rescue: RescueFile | None = None
    lock = FileLock(lock_path(path))
    make_folder(path.parent)
    lock.acquire()
    try:
        keyring = Keyring.load(key_file)
        rescue = RescueFile(
            path.with_name(path.name + ".rescue"),
            slots=answers + SPARE_SLOTS,
            writer=OwnThread("rescue writer"),
            syncer=OwnThread("rescue syncer"),
        )
        database = open_sqlite(path)
        if (migrated_to := await database.write(upgrade)) is not None:
            emit(Event.VAULT_MIGRATED, vault=str(path), version=migrated_to)
        key = await database.write(lambda c: open_fingerprint_key(c, keyring))
        vault = Vault(database, Sealer(keyring, Fingerprinter(key)), lock, rescue)
        vault.rescued.open()
    except BaseException:
        if database is not None:
            database.close()
        if rescue is not None:
            rescue.close()
        lock.release()
        raise
    return vault


def lock_path(path: Path) -> Path:
    """The lock file of the vault PATH."""
    return path.with_name(path.name + ".lock")
