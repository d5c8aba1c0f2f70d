"""Answers in the rescue file, sealed: those of this process, and those an earlier one left."""

from collections.abc import Callable

from refresher.errors import VaultKeyError
from refresher.logs import Event, emit
from refresher.vault.rescue import Kept, Rescue, RescueFile
from refresher.vault.rows import Sealer

_OWNER = "rescue"


class Rescued:
    """Seals records into the rescue file and opens what is in it."""

    def __init__(self, file: RescueFile, sealer: Sealer) -> None:
        self._file = file
        self._sealer = sealer
        self.left: dict[int, bytes] = {}
        """Records that wait for their commit, opened, by slot: of a process that died, and
        of grants that are set aside."""

    def open(self) -> None:
        """Open the file, and what a dead process left in it; what no key opens stays there.

        Raises:
            VaultUnavailable: the file cannot be prepared.
        """
        for slot, sealed in self._file.open().items():
            try:
                self.left[slot] = self._sealer.open_bytes(sealed, owner=_OWNER, column=_OWNER)
            except VaultKeyError as error:
                emit(Event.RESCUE_RETAINED, reason=str(error))

    def put(self, record: bytes, told: Callable[[Kept], None]) -> Rescue:
        """Seal RECORD into the file; TOLD hears how well it is kept. Waits for nothing."""
        sealed = self._sealer.seal_bytes(record, owner=_OWNER, column=_OWNER)
        return self._file.put(sealed, told)

    def withdraw(self, rescue: Rescue) -> None:
        """Free the slot of RESCUE, whose answer is in the vault now."""
        self._file.withdraw(rescue)

    def forget(self, slot: int) -> None:
        """Free a slot of ``left``, whose record has found its place."""
        del self.left[slot]
        self._file.clear(slot)

    def remake(self) -> None:
        """Make the file anew with all that is in it: somebody took it away."""
        self._file.remake()

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()
