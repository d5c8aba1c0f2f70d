"""Sealing secrets at rest: AES-256-GCM under a key derived for each grant.

A sealed value is ``format (1) | key id (8) | nonce (12) | ciphertext and tag``. The key id
names the master key, so several can be in use while a new one is brought in. Associated
data binds a value to its grant and column: a row copied over another one does not open.
"""

import base64
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.files import ABSENT, faults_of, open_to_read

FORMAT = b"\x01"
KEY_BYTES = 32
KEY_ID_BYTES = 8
NONCE_BYTES = 12
FINGERPRINT_BYTES = 16

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


class Keyring:
    """The master keys of a vault; the first seals, all open."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {hashlib.sha256(key).digest()[:KEY_ID_BYTES]: key for key in keys}
        self._active = next(iter(self._keys))

    @classmethod
    def load(cls, path: Path) -> "Keyring":
        """Read a key file: one base64 key of 32 bytes a line, the newest first.

        Raises:
            VaultKeyError: missing, unreadable, open to others, or not made of keys.
        """
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
            if faults := faults_of(path, status):
                raise VaultKeyError(f"others can change the vault key: {faults[0].text}")
            lines = os.read(descriptor, LARGEST_KEY_FILE).split()
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
        return cls(keys)

    def seal(self, value: bytes, *, owner: str, column: str) -> bytes:
        """Encrypt VALUE for COLUMN of the row OWNER (a grant's uid)."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        cipher = self._cipher(self._active, owner)
        sealed = cipher.encrypt(nonce, value, _associated_data(owner, column))
        return FORMAT + self._active + nonce + sealed

    def open(self, sealed: bytes, *, owner: str, column: str) -> bytes:
        """Decrypt what ``seal`` made for the same OWNER and COLUMN.

        Raises:
            VaultKeyError: sealed with a key that is not here, or not what it claims to be.
        """
        end = 1 + KEY_ID_BYTES
        key_id, nonce, ciphertext = sealed[1:end], sealed[end : end + 12], sealed[end + 12 :]
        if sealed[:1] != FORMAT or key_id not in self._keys:
            raise VaultKeyError("the vault was sealed with another key than the one configured")
        try:
            return self._cipher(key_id, owner).decrypt(
                nonce, ciphertext, _associated_data(owner, column)
            )
        except (InvalidTag, ValueError) as error:  # ValueError: cut off before its end
            raise VaultKeyError(f"a sealed {column} in the vault has been altered") from error

    def _cipher(self, key_id: bytes, owner: str) -> AESGCM:
        derived = HKDF(
            algorithm=SHA256(),
            length=KEY_BYTES,
            salt=None,
            info=b"refresher grant " + owner.encode(),
        ).derive(self._keys[key_id])
        return AESGCM(derived)


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

    systemd's credentials belong to root and show group read because of their access list.
    """
    mode = stat.S_IMODE(status.st_mode)
    handed_over = status.st_uid == 0 and os.geteuid() != 0
    forbidden = 0o037 if handed_over else 0o077
    if mode & forbidden:
        raise VaultKeyError(
            f"the vault key {path} is open to others (mode {mode:04o}): chmod 600 {path}"
        )


def _associated_data(owner: str, column: str) -> bytes:
    return f"{owner}|{column}".encode()
