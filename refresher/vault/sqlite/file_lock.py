"""One process at a time owns an SQLite vault: an advisory lock on a file beside it.

The kernel drops the lock with the process, however it dies, so a lock never has to be
broken. The file's text, the holder's pid, only serves the message.
"""

import fcntl
import os
from pathlib import Path

from refresher.errors import VaultInUse, VaultUnavailable
from refresher.files import opened_to_write
from refresher.vault.sqlite.refusals import opening_refused


class FileLock:
    """Holds ``PATH`` locked from ``acquire`` to ``release``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock now.

        Raises:
            VaultInUse: another process holds it.
            VaultUnavailable: the lock file cannot be made.
        """
        try:
            descriptor = opened_to_write(self._path)
        except (OSError, ValueError) as error:
            raise opening_refused(
                f"the vault's lock {self._path} cannot be opened", error
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read_pid(descriptor)
            os.close(descriptor)
            raise VaultInUse(str(self._path.with_suffix("")), holder) from error
        _write_pid(descriptor)
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether this process is the only one that writes."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _write_pid(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        raise VaultUnavailable(f"the vault's folder cannot be written: {error.strerror}") from error
