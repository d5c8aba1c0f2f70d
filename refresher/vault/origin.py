"""Where this vault comes from: whether it is a copy, or its file was put back to an older one.

A backup says so itself. Of a file that was put back in another way a counter tells: the
vault counts every start and every minute, and a file beside it remembers the count. It is
written after the vault, so a vault that has counted less is an older one. Nothing here
tells when the whole folder was put back, counter included; the versions in Redis may.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import sqlalchemy as sa

from refresher.domain.grants import GrantState
from refresher.vault.changes import What, note
from refresher.vault.clock_steps import RESTORED_FROM, fact, own_fact, set_fact
from refresher.vault.rows import Run, Transaction
from refresher.vault.schema import grants, logins
from refresher.vault.sqlite.backup import set_restored_from, take_copied_at
from refresher.vault.sqlite.files import Files, beside

_COUNT = "count"
"""Fact: the vault's random name, and how often it has counted."""

_LONGEST = 100
"""Bytes of a counter that this program wrote."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What is said of a vault that turns out to be an older one."""

    copied_at: float
    """The instant of which it is."""
    reason: str
    """``copy``, by its own word; ``rolled_back``, by the counter's."""
    count: int
    """Grants whose refresh token may have been spent since."""


class Origin:
    """What is known of the origin of one open vault."""

    def __init__(self, *, write: Run, files: Files) -> None:
        self._write = write
        self._files = files
        self._file = counter_path(files.path)
        self._remembered: tuple[str, int] | None = None
        self.restored_from: float | None = None
        """What is here since before this instant is of a copy, if this vault is one."""
        self._seen_newer: dict[str, float] = {}
        """Grants of which Redis showed a token that came after all that was known, and when."""

    def clock_set_back(self, offset: float) -> None:
        """The wall clock was set back, and what is stored follows it."""
        if self.restored_from is not None:
            self.restored_from += offset
        for name in self._seen_newer:
            self._seen_newer[name] += offset

    def seen_newer(self, name: str, now: float) -> None:
        """Redis shows a token of NAME that came after all that this vault knows of it."""
        self._seen_newer[name] = now

    def older_than(self, name: str) -> float | None:
        """What the vault holds of NAME since before this instant may be older than the truth."""
        if self.restored_from is None and not self._seen_newer:
            return None
        known = (self.restored_from, self._seen_newer.get(name))
        return max((instant for instant in known if instant is not None), default=None)

    async def learn(self, last_seen: float | None = None) -> Restored | None:
        """Learn what this vault is; what there is to say of it, once.

        Args:
            last_seen: when somebody last had this vault open.

        Raises:
            VaultUnavailable: the vault refuses.
        """
        remembered = await self._files.apart(lambda: read_counter(self._file))

        def learn(tx: Transaction) -> tuple[str, int, Restored | None]:
            self.restored_from, is_news = take_copied_at(tx)
            name, number, is_behind = _count(tx, remembered)
            restored = None
            if is_news and self.restored_from is not None:
                restored = Restored(self.restored_from, "copy", _refreshable(tx))
            elif is_behind:
                restored = self._rolled_back(tx, tx.now if last_seen is None else last_seen)
            if restored is not None:
                _note(tx, restored)
            return name, number, restored

        name, number, restored = await self._write(learn)
        await self._remember(name, number)
        return restored

    async def count(self) -> Restored | None:
        """Count on; what there is to say if the file was put back under this process.

        Raises:
            VaultUnavailable: the vault refuses.
        """

        def count(tx: Transaction) -> tuple[str, int, Restored | None]:
            # Another process may have found first that the vault was put back.
            known = fact(tx, RESTORED_FROM)
            self.restored_from = None if known is None else float(known)
            name, number, is_behind = _count(tx, self._remembered)
            restored = self._rolled_back(tx, tx.now) if is_behind else None
            if restored is not None:
                _note(tx, restored)
            return name, number, restored

        name, number, restored = await self._write(count)
        await self._remember(name, number)
        return restored

    def _rolled_back(self, tx: Transaction, copied_at: float) -> Restored:
        """Take all that is here for older than the truth: nothing newer is here yet."""
        self.restored_from = tx.now
        set_restored_from(tx, tx.now)
        return Restored(copied_at, "rolled_back", _refreshable(tx))

    async def _remember(self, name: str, number: int) -> None:
        self._remembered = name, number
        # A disk that refuses it leaves an older count there, which is never more than the vault's.
        with suppress(OSError):
            await self._files.apart(lambda: _write_counter(self._file, name, number))


def counter_path(vault: Path) -> Path:
    """The file that remembers how far the vault VAULT has counted."""
    return beside(vault, ".count")


def read_counter(file: Path) -> tuple[str, int] | None:
    """Name and count that FILE remembers; None where it holds nothing of that kind."""
    with suppress(OSError, ValueError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file, flags)
        try:
            name, number = os.read(descriptor, _LONGEST).decode("ascii").split()
        finally:
            os.close(descriptor)
        return name, int(number)
    return None


def _write_counter(file: Path, name: str, number: int) -> None:
    unfinished = file.with_name(file.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o600)
    try:
        os.write(descriptor, f"{name} {number}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(file)


def _count(tx: Transaction, remembered: tuple[str, int] | None) -> tuple[str, int, bool]:
    """Count one more; the vault's name, the count, and whether more was REMEMBERED of it."""
    name, number = _counted(tx)
    known = remembered[1] if remembered is not None and remembered[0] == name else 0
    is_behind = number < known
    number = max(number, known) + 1
    set_fact(tx, _COUNT, json.dumps([name, number]))
    return name, number, is_behind


def _counted(tx: Transaction) -> tuple[str, int]:
    with suppress(ValueError, TypeError):  # not what this program writes: it begins anew
        name, number = json.loads(own_fact(tx, _COUNT) or b"")
        return str(name), int(number)
    return token_hex(8), 0


def _note(tx: Transaction, restored: Restored) -> None:
    """Note that this vault is an older one; what was under way in it may have been finished."""
    note(tx, What.RESTORED, count=restored.count, detail=restored.reason)
    # A code that is sent again may end the tokens that it has brought (RFC 6749 4.1.2).
    tx.connection.execute(sa.delete(logins))


def _refreshable(tx: Transaction) -> int:
    held = grants.c.refresh_token_sealed.is_not(None)
    lost = grants.c.state == GrantState.REAUTHORIZATION_REQUIRED.value
    found = sa.select(sa.func.count()).select_from(grants).where(held, ~lost)
    return tx.connection.scalar(found) or 0
