"""The keys of one vault, and the cell of it that proves them.

The vault's fingerprint key is its own and not derived from a master key, so that fingerprints
outlive a change of keys. It is sealed in a fact, whose mark says two things: which key the
file must hold, and which formats the rest of the vault may be of.
"""

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.errors import VaultKeyError
from refresher.vault.key_file import bring_in_key
from refresher.vault.schema import facts, grants
from refresher.vault.sealing import FIRST_FORMAT, FORMAT, MARK_BYTES, Keyring, Place

FINGERPRINT_KEY = "fingerprint_key"

_PLACE = Place("vault", FINGERPRINT_KEY)
_IS_IT = facts.c.name == FINGERPRINT_KEY


def open_fingerprint_key(connection: Connection, keyring: Keyring) -> bytes:
    """The vault's fingerprint key, made on first use; opening it proves the master key.

    Raises:
        VaultKeyError: no key of KEYRING opens it, or it was taken out.
    """
    sealed = connection.scalar(sa.select(facts.c.value).where(_IS_IT))
    if sealed is not None:
        keyring.accepts_first = sealed[:1] == FIRST_FORMAT
        return keyring.open(sealed, _PLACE)
    if connection.scalar(sa.select(grants.c.id).limit(1)) is not None:
        raise VaultKeyError("the vault's own fingerprint key has been taken out: restore a backup")
    key = secrets.token_bytes(32)
    value = keyring.seal(key, _PLACE)
    connection.execute(sa.insert(facts).values(name=FINGERPRINT_KEY, value=value))
    return key


def read_again(connection: Connection, keyring: Keyring) -> None:
    """Let the key file count as it is now, if it has a key of this vault.

    Raises:
        VaultKeyError: it cannot be used; the keys stay what they were.
    """
    found = Keyring.load(keyring.path)
    open_fingerprint_key(connection, found)
    keyring.take_over(found)


def bring_in(connection: Connection, keyring: Keyring) -> str:
    """Write a new key above the others and let it seal; its id.

    The file is read before: above the lines of another vault the new key would be worthless.
    One step is enough for the one daemon of an SQLite vault, whose lock is held. Several
    daemons that share a vault need two: the new key has to come in as the second line, which
    all of them read, and may become the first only when each has announced that it knows it.

    Raises:
        VaultKeyError: the file cannot be written, or has no key of this vault.
    """
    read_again(connection, keyring)
    bring_in_key(keyring.path)
    read_again(connection, keyring)
    return keyring.mark[1:].hex()


def reseal_fingerprint_key(connection: Connection, keyring: Keyring, *, is_last: bool) -> int:
    """Bring the fingerprint key under the newest key; how many cells were written.

    Args:
        is_last: nothing of the first format is left: from this commit on it opens no more.
    """
    written = FORMAT if is_last else FIRST_FORMAT
    old = connection.scalar(sa.select(facts.c.value).where(_IS_IT))
    if old is None or old[:MARK_BYTES] == written + keyring.mark[1:]:
        return 0
    new = keyring.seal(keyring.open(old, _PLACE), _PLACE, written=written)
    change = sa.update(facts).where(_IS_IT, facts.c.value == old).values(value=new)
    return connection.execute(change).rowcount
