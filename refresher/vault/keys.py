"""The keys of one vault, and the cell of it that proves them.

The vault's fingerprint key is its own and not derived from a master key, so that fingerprints
outlive a change of keys. It is sealed in a fact, whose mark says two things: which key the
file must hold, and which formats the rest of the vault may be of. It is sealed anew last of all,
so a key file that lost the old key too early is refused.

Another fact says which key seals. It is written first of all, so that whoever opens the vault
later has that key too, or is refused.
"""

import secrets
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.errors import VaultKeyError
from refresher.vault.key_file import bring_in_key
from refresher.vault.schema import facts, grants
from refresher.vault.sealing import (
    FIRST_FORMAT,
    FORMAT,
    KEY_ID_BYTES,
    MARK_BYTES,
    Keyring,
    Place,
)

FINGERPRINT_KEY = "fingerprint_key"

SEALING_KEYS = "sealing_keys"
"""Fact of a vault whose key was changed: the ids of the keys that have sealed it, one behind the
other, the newest first. It comes before anything is sealed with that one."""

_PLACE = Place("vault", FINGERPRINT_KEY)
_IS_IT = facts.c.name == FINGERPRINT_KEY
_IS_USED = facts.c.name == SEALING_KEYS


def open_fingerprint_key(connection: Connection, keyring: Keyring) -> bytes:
    """The vault's fingerprint key, made on first use; opening it proves the master key.

    Raises:
        VaultKeyError: no key of KEYRING opens it, or it was taken out; or the key that seals
            the vault is not in KEYRING.
    """
    sealed = connection.scalar(sa.select(facts.c.value).where(_IS_IT))
    if sealed is not None:
        keyring.accepts_first = sealed[:1] == FIRST_FORMAT
        opened = keyring.open(sealed, _PLACE)
        keyring.follow(used_keys(connection))
        if keyring.missing is not None:
            raise VaultKeyError(lacking(keyring))
        return opened
    if connection.scalar(sa.select(grants.c.id).limit(1)) is not None:
        raise VaultKeyError("the vault's own fingerprint key has been taken out: restore a backup")
    key = secrets.token_bytes(32)
    value = keyring.seal(key, _PLACE)
    connection.execute(sa.insert(facts).values(name=FINGERPRINT_KEY, value=value))
    keyring.follow([keyring.sealing])
    return key


def lacking(keyring: Keyring) -> str:
    """That KEYRING has not the key that seals, and what to do."""
    key = b"" if keyring.missing is None else keyring.missing
    return (
        f"the vault is sealed with the key {key.hex()}, which is in no line of {keyring.path}: "
        "put its line there, from the key file of another replica or from a backup"
    )


def lock(connection: Connection) -> None:
    """Let nobody else change which key seals, nor begin to share the vault, until the commit."""
    connection.execute(sa.select(facts.c.name).where(_IS_IT).with_for_update())


def used_keys(connection: Connection) -> list[bytes]:
    """The ids of the keys that have sealed the vault, the one that does first."""
    named = sa.select(facts.c.name, facts.c.value).where(_IS_USED | _IS_IT)
    known = {row.name: row.value for row in connection.execute(named)}
    used = known.get(SEALING_KEYS) or known[FINGERPRINT_KEY][1:MARK_BYTES]
    return [used[at : at + KEY_ID_BYTES] for at in range(0, len(used), KEY_ID_BYTES)]


def use(connection: Connection, key: bytes, used: Sequence[bytes]) -> list[bytes]:
    """Let KEY seal from this commit on, in the place of the keys USED; all of them."""
    keys = [key, *used]
    value = b"".join(keys)
    if not connection.execute(sa.update(facts).where(_IS_USED).values(value=value)).rowcount:
        connection.execute(sa.insert(facts).values(name=SEALING_KEYS, value=value))
    return keys


def read_again(connection: Connection, keyring: Keyring) -> None:
    """Let the key file count as it is now, if it has the keys of this vault.

    Raises:
        VaultKeyError: it cannot be used; the keys stay what they were.
    """
    take_over(connection, keyring, Keyring.load(keyring.path))


def take_over(connection: Connection, keyring: Keyring, found: Keyring) -> None:
    """Let KEYRING have the keys FOUND in its file; see ``read_again``."""
    open_fingerprint_key(connection, found)
    keyring.take_over(found)


def bring_in(connection: Connection, keyring: Keyring, line: str) -> str:
    """Write the key LINE above the others in the key file; its id. It seals nothing yet.

    The file is read before: above the lines of another vault the new key would be worthless.
    Replicas may share one file on a volume, so they write it one after the other.

    Raises:
        VaultKeyError: the file cannot be written, or has no key of this vault.
    """
    lock(connection)
    read_again(connection, keyring)
    bring_in_key(keyring.path, line)
    read_again(connection, keyring)
    return keyring.ids[0].hex()


def reseal_fingerprint_key(connection: Connection, keyring: Keyring, *, is_last: bool) -> int:
    """Bring the fingerprint key under the key that seals; how many cells were written.

    Args:
        is_last: nothing of the first format is left: from this commit on it opens no more.
    """
    written = FORMAT if is_last else FIRST_FORMAT
    old = connection.scalar(sa.select(facts.c.value).where(_IS_IT))
    if old is None or old[:MARK_BYTES] == written + keyring.sealing:
        return 0
    if used_keys(connection)[0] != keyring.sealing:
        return 0  # another replica has changed the key since
    new = keyring.seal(keyring.open(old, _PLACE), _PLACE, written=written)
    change = sa.update(facts).where(_IS_IT, facts.c.value == old).values(value=new)
    return connection.execute(change).rowcount
