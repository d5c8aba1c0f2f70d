"""The vault's key file, which may be changed where it is kept while the daemon runs.

A replica on another machine brings a new key in, or the program that hands secrets out does. No
key seals before every replica has read it, so each looks at its file by itself every few seconds.
"""

from functools import partial
from pathlib import Path

import anyio

from refresher.app.secret_watch import LOOK_EVERY, SETTLED
from refresher.errors import VaultKeyError, VaultUnavailable
from refresher.logs import Event, emit
from refresher.settings.secret_places import InFiles, Stamp
from refresher.threads import in_thread_of_its_own
from refresher.vault.resealing import Resealing

SETTING = "vault.key_file"


class KeyWatch:
    """Has RESEALING read the key FILE again whenever it was changed."""

    def __init__(self, file: Path, resealing: Resealing, *, look_every: float = LOOK_EVERY) -> None:
        self._file, self._resealing, self._look_every = file, resealing, look_every
        self._known: Stamp | None = None

    async def run(self) -> None:
        """Look for ever. What was changed before the first look is read, too."""
        while True:
            await self._look()
            await anyio.sleep(self._look_every)

    async def _look(self) -> None:
        stamp = await self._stamp()
        if stamp in {None, self._known}:
            return
        await anyio.sleep(SETTLED)  # somebody may be writing it
        if await self._stamp() != stamp:
            return
        try:
            is_new = await self._resealing.read_again()
        except VaultKeyError as error:
            emit(Event.SECRET_DOUBTED, setting=SETTING, reason=str(error))
        except VaultUnavailable:
            return  # told as an outage; the next look tries again
        else:
            if is_new:
                emit(Event.SECRET_REPLACED, setting=SETTING)
        self._known = stamp

    async def _stamp(self) -> Stamp | None:
        try:
            return await in_thread_of_its_own(partial(_stamp_of, self._file))
        except RuntimeError:  # no thread can be started
            return None


def _stamp_of(file: Path) -> Stamp | None:
    """What tells one content of FILE from the next; None of a pipe, which is read only once."""
    return InFiles((file,)).stamp() if file.is_file() else None
