"""Sealing secrets at rest: AES-256-GCM under a key derived for each grant.

A sealed value is ``format (1) | key id (8) | nonce (12) | ciphertext and tag``. The key id
names the master key, so several can be in use while a new one is brought in. Associated
data binds a value to its ``Place``: copied to another row or column, or left in a row whose
name, client or authorization somebody has changed, it does not open.

The first format bound a value to its grant's uid and its column alone. It is opened only
where the vault says that it may still hold some (``Keyring.accepts_first``).
"""

import base64
import contextlib
import errno
import hashlib
import hmac
import json
import os
import secrets
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refresher.domain.keys import next_to_seal
from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.files import ABSENT, faults_of, is_own_group, open_to_read

FIRST_FORMAT, FORMAT = b"\x01", b"\x02"
KEY_BYTES = 32
KEY_ID_BYTES = 8
NONCE_BYTES = 12
FINGERPRINT_BYTES = 16

CIPHERS_KEPT = 1_024
"""Grants whose cipher is kept: those whose exchange is out, from the claim to the commit."""

MARK_BYTES = 1 + KEY_ID_BYTES
"""The beginning of a sealed value that tells its format and its key."""


_ENCODER = json.JSONEncoder(default=repr)


class Place(NamedTuple):
    """What a sealed value belongs to; it opens nowhere else."""

    owner: str
    """A grant's uid; the key is derived from it."""
    column: str
    bound: tuple[str | int | None, ...] = ()
    """What else of its row it is bound to."""

    def associated_data(self, written: bytes) -> bytes:
        """How the format WRITTEN names this place."""
        if written == FIRST_FORMAT:
            return f"{self.owner}|{self.column}".encode()
        named = [
            encode_basestring_ascii(part) if type(part) is str else _named(part)
            for part in (self.owner, self.column, *self.bound)
        ]
        return f"[{', '.join(named)}]".encode()


def _named(part: object) -> str:
    """PART as JSON, which is no plain text, in a fraction of the time of an encoder."""
    # What a damaged row holds instead of text is named too, and is no place of ours.
    return str(part) if type(part) is int else _ENCODER.encode(part)


LARGEST_KEY_FILE = 65_536
"""Bytes that are read: more than a thousand keys."""


def new_key_line() -> str:
    """A fresh master key as one line of a key file."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"


def write_key_file(path: Path) -> None:
    """Create a key file with one new key, mode 0600.

    Raises:
        FileExistsError: PATH exists; a key is never overwritten.
    """
    descriptor = os.open(path, os.O_WRONLY | ABSENT, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new_key_line())
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a key file, exchanged as a whole."""

    by_id: dict[bytes, bytes]
    """In the order of the file's lines."""
    sealing: bytes
    """The id of the one that seals."""


class Keyring:
    """The master keys of a vault; one seals, all open.

    Threads that seal and open while it is read again each work with one whole set of keys.
    """

    def __init__(self, keys: list[bytes], path: Path | None = None) -> None:
        by_id = {_key_id(key): key for key in keys}
        self._keys = _Keys(by_id, next(iter(by_id)))
        self._path = path
        self._changing = threading.Lock()
        self.accepts_first = False
        """Whether values of the first format open: until everything is of the newest."""
        self.used: Sequence[bytes] = ()
        """The ids of the keys that the vault was sealed with, as it says; the first seals."""
        self.needed = frozenset(by_id)
        """Ids of keys under which this process may have sealed what only it can reach."""

    @classmethod
    def load(cls, path: Path) -> "Keyring":
        """Read a key file: one base64 key of 32 bytes a line, the newest first.

        Raises:
            VaultKeyError: missing, unreadable, open to others, or not made of keys.
        """
        return cls(_read_keys(path), path)

    @property
    def path(self) -> Path:
        """The key file."""
        assert self._path is not None
        return self._path

    @property
    def ids(self) -> list[bytes]:
        """The ids of all keys, in the order of the file's lines."""
        return list(self._keys.by_id)

    @property
    def sealing(self) -> bytes:
        """The id of the key that seals."""
        return self._keys.sealing

    @property
    def mark(self) -> bytes:
        """How everything begins that is sealed now."""
        return FORMAT + self._keys.sealing

    @property
    def marks(self) -> list[bytes]:
        """How everything begins that can be opened."""
        return [written + key for key in self._keys.by_id for written in (FIRST_FORMAT, FORMAT)]

    @property
    def wanted(self) -> bytes | None:
        """The id of the key that is to seal and does not yet, if there is one."""
        return next_to_seal(self.ids, self.used)

    @property
    def missing(self) -> bytes | None:
        """The id of the key that the vault is sealed with, if it is not here."""
        return self.used[0] if self.used and self.used[0] not in self._keys.by_id else None

    def follow(self, used: Sequence[bytes]) -> None:
        """Seal with the first of the keys USED, as the vault says, once it is here."""
        with self._changing:
            self.used = used
            if used[0] in self._keys.by_id:
                self._keys = _Keys(self._keys.by_id, used[0])

    def take_over(self, other: "Keyring") -> None:
        """Have the keys of OTHER from now on, which knows the vault too."""
        with self._changing:
            by_id = other._keys.by_id  # noqa: SLF001  its own class
            known = (*self.used, *other.used)
            self._keys = _Keys(by_id, next(key for key in known if key in by_id))

    def seal(self, value: bytes, place: Place, *, written: bytes = FORMAT) -> bytes:
        """Encrypt VALUE for PLACE, in the format WRITTEN."""
        keys, nonce = self._keys, secrets.token_bytes(NONCE_BYTES)
        cipher = _cipher(keys.by_id[keys.sealing], place.owner)
        sealed = cipher.encrypt(nonce, value, place.associated_data(written))
        return written + keys.sealing + nonce + sealed

    def open(self, sealed: bytes, place: Place) -> bytes:
        """Decrypt what ``seal`` made for the same PLACE.

        Raises:
            VaultKeyError: sealed with a key that is not here, or not what it claims to be.
        """
        written, key_id = sealed[:1], sealed[1:MARK_BYTES]
        nonce, ciphertext = sealed[MARK_BYTES : MARK_BYTES + 12], sealed[MARK_BYTES + 12 :]
        key = self._keys.by_id.get(key_id)
        if written not in {FIRST_FORMAT, FORMAT} or key is None:
            raise VaultKeyError(
                "the vault was sealed with another key than the one configured: "
                f"{key_id.hex()} is in no line of the key file"
            )
        if written == FIRST_FORMAT and not self.accepts_first:
            raise VaultKeyError(
                f"a sealed {place.column} in the vault is of a form that this vault has no more: "
                "somebody has put it there"
            )
        try:
            return _cipher(key, place.owner).decrypt(
                nonce, ciphertext, place.associated_data(written)
            )
        except (InvalidTag, ValueError) as error:  # ValueError: cut off before its end
            raise VaultKeyError(
                f"a sealed {place.column} in the vault, or the row that it belongs to, has been "
                "altered"
            ) from error


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:KEY_ID_BYTES]


@lru_cache
def _extracted(key: bytes) -> bytes:
    return hmac.digest(bytes(KEY_BYTES), key, "sha256")


@lru_cache(CIPHERS_KEPT)
def _cipher(key: bytes, owner: str) -> AESGCM:
    """The cipher of one OWNER: its key is HKDF-SHA256 of the master KEY (RFC 5869), one block."""
    return AESGCM(
        hmac.digest(_extracted(key), b"refresher grant " + owner.encode() + b"\x01", "sha256")
    )


def _read_keys(path: Path) -> list[bytes]:
    try:
        descriptor = open_to_read(path)
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise VaultKeyError(
                f"the vault key {path} does not exist: `refresher init` makes one; "
                "an existing vault opens only with its own key"
            ) from error
        raise VaultKeyError(f"the vault key {path} {error}") from error
    try:
        status = os.fstat(descriptor)
        _refuse_open_file(path, status)
        if faults := faults_of(path, status, of_daemon=True):
            raise VaultKeyError(f"others can change the vault key: {faults[0].text}")
        lines = os.read(descriptor, LARGEST_KEY_FILE).split()
        _make_durable(path, descriptor)
    except OSError as error:
        raise VaultKeyError(f"the vault key {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    try:
        keys = [base64.b64decode(line, validate=True) for line in lines]
    except ValueError as error:
        raise VaultKeyError(f"the vault key {path} is not base64") from error
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise VaultKeyError(f"the vault key {path} must hold keys of {KEY_BYTES} bytes")
    return keys


def _make_durable(path: Path, descriptor: int) -> None:
    """Sync the key file: the editor that wrote it may not have, and all that is sealed needs it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a pipe: nobody has edited that
            raise
    with contextlib.suppress(PermissionError):  # a folder of somebody else's that cannot be read
        folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Fingerprinter:
    """Recognizes a refresh token without holding it: HMAC-SHA256, 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, refresh_token: Secret) -> bytes:
        """The fingerprint of REFRESH_TOKEN in this vault; useless outside of it."""
        digest = hmac.digest(self._key, refresh_token.reveal().encode(), "sha256")
        return digest[:FINGERPRINT_BYTES]


def _refuse_open_file(path: Path, status: os.stat_result) -> None:
    """Others must not read a key; a group may when a service manager handed the file over.

    systemd's credentials belong to root and show group read because of their access list. On
    a volume that a platform gave to the process's own group that group has every right.
    """
    mode = stat.S_IMODE(status.st_mode)
    handed_over = status.st_uid == 0 and os.geteuid() != 0
    forbidden = 0o037 if handed_over else 0o077
    if mode & forbidden and (mode & stat.S_IRWXO or not is_own_group(path, status)):
        raise VaultKeyError(
            f"the vault key {path} is open to others (mode {mode:04o}): chmod 600 {path}"
        )
