"""Answers in the rescue file, sealed: those of this process, and those an earlier one left."""

from collections.abc import Callable

from refresher.errors import VaultKeyError
from refresher.logs import Event, emit
from refresher.vault.rescue import Kept, Rescue, RescueFile
from refresher.vault.rows import Sealer
from refresher.vault.sealing import MARK_BYTES, Place

_PLACE = Place("rescue", "rescue")
"""A record says by itself whose it is, and is judged by that (``engine.records``)."""


class Rescued:
    """Seals records into the rescue file and opens what is in it."""

    def __init__(self, file: RescueFile, sealer: Sealer) -> None:
        self._file = file
        self._sealer = sealer
        self.left: dict[int, bytes] = {}
        """Records that wait for their commit, opened, by slot: of a process that died, and
        of grants that are set aside."""
        self.unopened: dict[int, bytes] = {}
        """How those begin that no key opened, by slot."""

    def open(self) -> None:
        """Open the file, and what a dead process left in it; what no key opens stays there.

        Raises:
            VaultUnavailable: the file cannot be prepared.
        """
        for slot, sealed in self._file.open().items():
            try:
                self.left[slot] = self._sealer.keyring.open(sealed, _PLACE)
            except VaultKeyError as error:
                self.unopened[slot] = sealed[:MARK_BYTES]
                emit(Event.RESCUE_RETAINED, reason=str(error))

    def put(self, record: bytes, told: Callable[[Kept], None]) -> Rescue:
        """Seal RECORD into the file; TOLD hears how well it is kept. Waits for nothing."""
        sealed = self._sealer.keyring.seal(record, _PLACE)
        return self._file.put(sealed, told)

    def withdraw(self, rescue: Rescue) -> None:
        """Free the slot of RESCUE, whose answer is in the vault now."""
        self._file.withdraw(rescue)

    def forget(self, record: bytes) -> None:
        """Free the slot of ``left`` that holds RECORD, which has found its place."""
        for slot in [slot for slot, left in self.left.items() if left is record]:
            del self.left[slot]
            self._file.clear(slot)

    def drop(self, slot: int) -> bool:
        """Free SLOT, whatever it holds; whether it held something that was left."""
        is_left = self.left.pop(slot, None) is not None
        is_left |= self.unopened.pop(slot, None) is not None
        if is_left:
            self._file.clear(slot)
        return is_left

    async def reseal(self, mark: bytes) -> int:
        """Bring what is left under the key that seals, whose values begin with MARK; how many were.

        A record goes to another slot before its own is freed: it may be the only copy. A
        process that dies in between leaves two, of which the commit rule takes one.
        """
        count = 0
        for slot, found in (await self._file.beginnings(MARK_BYTES)).items():
            record = self.left.get(slot)
            if record is None or found == mark:
                continue
            told: list[Kept] = []
            rescue = self.put(record, told.append)
            await rescue.is_settled.wait()
            if rescue.slot is None:
                continue  # no slot is free now
            if told != [Kept.SYNCED] or self.left.get(slot) is not record:
                self.withdraw(rescue)
                continue
            self.left[rescue.slot] = self.left.pop(slot)
            self._file.clear(slot)
            count += 1
        return count

    async def marks(self) -> list[bytes]:
        """How everything in the file begins."""
        return list((await self._file.beginnings(MARK_BYTES)).values())

    def remake(self) -> None:
        """Make the file anew with all that is in it: somebody took it away."""
        self._file.remake()

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()
