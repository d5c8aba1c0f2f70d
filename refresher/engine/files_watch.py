"""The watch over the vault's files: what becomes of them under a daemon that has them open.

Beside the watch over the grants, for a vault that is gone refuses everything else. Once a
file is gone or another one, nothing more is sent until a new process has opened what is
there then: a refresh token that is spent now could not be followed by its successor.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio

from refresher.clock import Clock
from refresher.engine.announcements import announce_restored
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.sqlite.engine import make_folder
from refresher.vault.sqlite.files import How, Part, Vanished, beside
from refresher.vault.vault import Vault

LOOK_EVERY = 0.5
"""Seconds between looks."""

COUNT_EVERY = 60.0
"""Seconds between two counts: a vault put back to a younger state goes unnoticed."""

MEASURED_EVERY = 5.0
"""Seconds between two looks at the clock of a vault that has one of its own."""

SAVED_EVERY = 5.0
"""Seconds between two tries to save what a vanished vault held."""

_RESTART = "restart the daemon, once nothing else uses its folder"


class FilesWatch:
    """Looks twice a second for as long as the daemon runs."""

    def __init__(self, *, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock

    async def run(self) -> None:
        """Look for ever, and count."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._count)
            if self._vault.measure_clock is not None:
                tasks.start_soon(self._measure, self._vault.measure_clock)
            while True:
                if found := await self._vault.files.look():
                    await self._meet(found)
                await anyio.sleep(LOOK_EVERY)

    async def _count(self) -> None:
        while True:
            await anyio.sleep(COUNT_EVERY)
            with suppress(VaultUnavailable):  # told as an outage; the next one counts
                restored = await self._vault.origin.count()
                if restored is not None:
                    announce_restored(restored)

    async def _measure(self, measure_clock: Callable[[], Awaitable[None]]) -> None:
        while True:
            await anyio.sleep(MEASURED_EVERY)
            with suppress(VaultUnavailable):  # whoever writes tells; the clock goes on by itself
                await measure_clock()

    async def _meet(self, found: Sequence[Vanished]) -> None:
        self._vault.outage.met(self, None)  # it is told here, and in other words
        for vanished in found:
            emit(
                Event.VAULT_VANISHED,
                file=str(vanished.file),
                reason=vanished.how.value,
                repair=_repair(vanished),
            )
        path = self._vault.files.path
        with suppress(VaultUnavailable):  # saving it tells of a folder that cannot be made again
            await self._vault.files.apart(lambda: make_folder(path.parent))
        if any(vanished.part is Part.RESCUE for vanished in found):
            self._vault.rescued.remake()
        of_vault = [one for one in self._vault.files.vanished if one.part is Part.VAULT]
        is_first = bool(of_vault) and set(of_vault) <= set(found)
        if is_first and all(one.how is not How.TRUNCATED for one in of_vault):
            await self._save()

    async def _save(self) -> None:
        """Copy everything that the open connection still reads."""
        path = self._vault.files.path
        stamp = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
        copy, is_told = beside(path, f".saved-{stamp}"), False
        while True:
            try:
                await self._vault.save(copy)
            except VaultUnavailable as error:
                if not is_told:
                    emit(Event.VAULT_REFUSED, reason=str(error))
                is_told = True
                await anyio.sleep(SAVED_EVERY)
            else:
                emit(Event.VAULT_SAVED, path=str(copy), repair=_restore(copy))
                return


def _repair(vanished: Vanished) -> str:
    if vanished.part is not Part.VAULT:
        return _RESTART
    if vanished.how is How.TRUNCATED:
        return _restore("FILE", "with your last backup as FILE")
    return "wait for vault.saved, which names a copy of all that was in it"


def _restore(copy: Path | str, more: str = "") -> str:
    return f"stop the daemon, then: refresher vault restore {copy}" + (more and f", {more}")
