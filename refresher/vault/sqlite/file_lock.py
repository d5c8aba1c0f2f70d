"""One process at a time owns an SQLite vault: an advisory lock on a file beside it.

The kernel drops the lock with the process, however it dies, so a lock never has to be
broken. The file's text, the holder's pid and what it is, only serves those that wait and the
messages; it stays when the holder has ended.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from refresher.errors import VaultInUse, VaultUnavailable
from refresher.files import opened_to_write
from refresher.vault.sqlite.refusals import opening_refused

DAEMON = " daemon"
"""Stands behind the pid of a daemon."""


class FileLock:
    """Holds ``PATH`` locked from ``acquire`` to ``release``."""

    def __init__(self, path: Path, *, is_daemon: bool = False) -> None:
        self._path = path
        self._is_daemon = is_daemon
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
            pid, is_daemon = _read(os.pread(descriptor, 32, 0))
            os.close(descriptor)
            path = str(self._path.with_suffix(""))
            raise VaultInUse(path, pid, is_daemon=is_daemon) from error
        _write(descriptor, f"{os.getpid()}{DAEMON if self._is_daemon else ''}\n")
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


def daemon_in(path: Path) -> int | None:
    """The pid of the daemon that holds the lock file PATH; None where none is seen to.

    It is read and not tried: whoever took the lock for a moment could keep a daemon out.
    """
    with suppress(OSError, LookupError):
        pid, is_daemon = _read(path.read_bytes()[:32])
        if pid is not None and is_daemon and is_held_by(path, pid):
            return pid
    return None


def is_held_by(path: Path, pid: int) -> bool:
    """Whether PID holds the lock file PATH, by the kernel's word and not by the file's text.

    Raises:
        OSError, LookupError: not on this system, or the file is gone.
    """
    inode = str(path.stat().st_ino)
    # 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(
        lock[1] == "FLOCK" and lock[4] == str(pid) and lock[5].rpartition(":")[2] == inode
        for lock in locks
    )


def _read(text: bytes) -> tuple[int | None, bool]:
    """The pid in TEXT, and whether it is a daemon's."""
    number, *role = text.split() or [b""]
    return int(number) if number.isdigit() else None, role == [DAEMON.strip().encode()]


def _write(descriptor: int, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError as error:
        os.close(descriptor)
        raise VaultUnavailable(f"the vault's folder cannot be written: {error.strerror}") from error
