"""Whether the vault's files are still those that this process opened.

They are looked at by ``lstat`` alone and never opened a second time: closing any descriptor
of an SQLite file drops the locks that the process has on it (sqlite.org/howtocorrupt.html,
2.2), and then another process deletes the ``-wal`` under this one, or writes beside it.
Gone or another one is what has another device or inode. Only of the vault itself and of the
rescue file the size counts too, which never shrinks; an empty ``-wal`` is a legal one.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import anyio

from refresher.errors import VaultUnavailable
from refresher.vault.threads import Thread

T = TypeVar("T")


ENDINGS = ("-wal", "-shm")
"""Of the files that SQLite keeps beside a vault that is open."""


class How(StrEnum):
    """What has become of a file."""

    DELETED = "deleted"
    REPLACED = "replaced"
    TRUNCATED = "truncated"


class Part(StrEnum):
    """What the file is to the vault, and so what its loss means."""

    VAULT = "vault"
    """The grants: what is written into it from now on nobody would find again."""
    LOCK = "lock"
    """Another daemon may have got in."""
    RESCUE = "rescue"
    """An answer that the vault refuses would be in memory alone."""


@dataclass(frozen=True, slots=True)
class Vanished:
    """One file that is not the one that was opened any more."""

    file: Path
    part: Part
    how: How

    def __str__(self) -> str:
        return f"{self.file} was {self.how} while it was in use"


@dataclass(slots=True)
class _Known:
    part: Part
    identity: tuple[int, int]
    size: int | None
    """The largest seen; None where it does not count."""


class Files:
    """The files of one open vault.

    Args:
        path: of the vault.
        looker: the thread that looks, for a disk that hangs stops whoever asks it.
        is_vault: PATH is the vault; else it lies in a database, and only lock and rescue file
            are here.
    """

    def __init__(self, path: Path, looker: Thread, *, is_vault: bool = True) -> None:
        self.path = path
        self._is_vault = is_vault
        self._looker = looker
        self._known: dict[Path, _Known] = {}
        self.vanished: list[Vanished] = []
        """What has vanished since the opening."""

    @property
    def is_vault_gone(self) -> bool:
        """Whether what is written into the vault would be found by nobody."""
        return any(vanished.part is Part.VAULT for vanished in self.vanished)

    def require(self) -> None:
        """Whoever is about to send something asks.

        Raises:
            VaultUnavailable: a file is gone or another one.
        """
        if self.vanished:
            raise VaultUnavailable(str(self.vanished[0]))

    def require_vault(self) -> None:
        """Whoever is about to write something asks.

        Raises:
            VaultUnavailable: what is written would be found by nobody.
        """
        if self.is_vault_gone:
            raise VaultUnavailable(str(self.vanished[0]))

    def remember(self) -> None:
        """Take the files as they are now for those that are open.

        Raises:
            VaultUnavailable: one of them is not there.
        """
        # SQLite follows links and keeps its own files beside what they lead to.
        vault = Path(os.path.realpath(self.path))
        parts = {
            beside(self.path, ".lock"): Part.LOCK,
            beside(self.path, ".rescue"): Part.RESCUE,
        }
        if self._is_vault:
            parts |= dict.fromkeys((vault, *(beside(vault, end) for end in ENDINGS)), Part.VAULT)
        for file, part in parts.items():
            try:
                status = file.lstat()
            except OSError as error:
                raise VaultUnavailable(f"{file} is gone again: {error.strerror}") from error
            sized = file == vault or part is Part.RESCUE
            identity = status.st_dev, status.st_ino
            self._known[file] = _Known(part, identity, status.st_size if sized else None)

    async def look(self) -> list[Vanished]:
        """What has vanished since the last look; each file is told once."""
        found = await self.apart(self._look)
        for vanished in found:
            del self._known[vanished.file]
        self.vanished += found
        return found

    async def apart(self, work: Callable[[], T]) -> T:
        """Do WORK on the vault's folder in the thread that looks."""
        ended, results, errors = anyio.Event(), list[T](), list[BaseException]()

        def done(error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            ended.set()

        self._looker.submit(lambda: results.append(work()), done)
        await ended.wait()
        if errors:
            raise errors[0]
        return results[0]

    def close(self) -> None:
        """Look no more."""
        self._looker.end(0.0)

    def _look(self) -> list[Vanished]:
        found = []
        for file, known in list(self._known.items()):
            how = _what_became(file, known)
            if how is not None:
                found.append(Vanished(file, known.part, how))
        return found


def beside(path: Path, ending: str) -> Path:
    """The file of the vault PATH that has its name and ENDING."""
    return path.with_name(path.name + ending)


def _what_became(file: Path, known: _Known) -> How | None:
    try:
        status = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return How.DELETED
    except OSError:
        return None  # it may be there; what cannot be reached is refused to whoever works on it
    if (status.st_dev, status.st_ino) != known.identity:
        return How.REPLACED
    if known.size is not None:
        if status.st_size < known.size:
            return How.TRUNCATED
        known.size = status.st_size
    return None
