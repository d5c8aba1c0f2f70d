"""The rescue file: where an answer waits while the vault refuses to take it, or hangs.

What is written here outlives ``kill -9`` as soon as ``pwrite`` has returned, and a power
failure once ``fdatasync`` has. Each has a thread of its own: a disk that hangs in the
second keeps no answer from the first, and the event loop from nothing.

There is a slot for every answer that can be open at once, and each takes the record of
the largest answer: only then is none refused, whatever servers send in whichever order.
The room is allocated beforehand, so that a full disk cannot refuse it either; for the 64
workers of the default that is 47 MB. Slots have their length and checksum, so that a torn
write is seen and never half believed. Their content is sealed.
"""

import asyncio
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import anyio

from refresher.errors import VaultUnavailable
from refresher.files import ABSENT, opened_to_write
from refresher.logs import Event, emit
from refresher.vault.sqlite.refusals import opening_refused
from refresher.vault.threads import Thread

SLOT_BYTES = 352 * 1024
"""An answer of 256 KiB as it came, and room for its grant, its tokens and the sealing."""

SPARE_SLOTS = 8
"""For the answers to people's logins, and for slots that cannot be cleared."""

SYNCED_WITHIN = 1.0
"""Seconds after which a disk that has not confirmed a record counts as hanging."""

ENDED_WITHIN = 1.0
"""Seconds to wait for the threads when the file is closed."""

_START = struct.Struct(">4sI")
_START_MAGIC = b"rsc2"
_START_BYTES = 4096
"""The file begins with its magic and the size of its slots, on a block of their own."""

_HEADER = struct.Struct(">4sII")
_MAGIC = b"slot"

_OLD_MAGIC, _OLD_SLOT_BYTES = b"rsc1", 80 * 1024
"""How the first version wrote: slots from the first byte on."""


class Kept(StrEnum):
    """How well an answer is kept."""

    SYNCED = "rescued"
    """It outlives a power failure."""
    WRITTEN = "rescued, not synced"
    """It outlives the process, not the machine: the disk has not confirmed it."""
    REFUSED = "in memory only"


class Rescue:
    """One record on its way into the file."""

    def __init__(self, slot: int | None, told: Callable[[Kept], None]) -> None:
        self.slot = slot
        self.is_written = False
        """Whether it outlives the process."""
        self.is_settled = anyio.Event()
        """Set once it is known how well it is kept."""
        self.is_withdrawn = False
        self._told = told

    def settle(self, kept: Kept) -> None:
        """Say how well it is kept, the first time only."""
        if not self.is_settled.is_set():
            self.is_settled.set()
            self._told(kept)

    def withdraw(self) -> None:
        """Say nothing any more: its answer is in the vault."""
        self.is_withdrawn = True
        self.is_settled.set()


class RescueFile:
    """A file of slots; a slot is free when its header is blank.

    Args:
        slots: how many answers can be open at once.
        writer: the thread that writes.
        syncer: the thread that waits for the disk.
    """

    def __init__(self, path: Path, *, slots: int, writer: Thread, syncer: Thread) -> None:
        self._path = path
        self._slots = slots
        self._writer, self._syncer = writer, syncer
        self._free: list[int] = []
        self._uncleared: set[int] = set()
        """Slots whose blanking the disk refused."""
        self._is_retention_told = False
        self._descriptor = -1

    def open(self) -> dict[int, bytes]:
        """Open or make the file; give back what a dead process left in it, by slot.

        A file of the first version, or one too small, is brought to this form with all
        that is in it.

        Raises:
            VaultUnavailable: it cannot be made: better to know before a token is spent.
        """
        try:
            self._descriptor = opened_to_write(self._path)
            if os.pread(self._descriptor, _START.size, 0) != _START.pack(_START_MAGIC, SLOT_BYTES):
                self._replace(dict(enumerate(_read_other_form(self._descriptor))))
            status = os.fstat(self._descriptor)
            size = max(status.st_size, _place(self._slots))
            if size > min(status.st_size, status.st_blocks * 512):
                os.posix_fallocate(self._descriptor, 0, size)
                os.fsync(self._descriptor)
        except (OSError, ValueError) as error:
            raise opening_refused(
                f"the rescue file {self._path} cannot be prepared", error
            ) from error
        slots = range((size - _START_BYTES) // SLOT_BYTES)
        left = {slot: content for slot in slots if (content := self._read(slot))}
        self._free = [slot for slot in slots if slot not in left]
        return left

    def put(self, content: bytes, told: Callable[[Kept], None]) -> Rescue:
        """Write CONTENT, and call TOLD once with how well it is kept; waits for nothing."""
        self._clear_again()
        if not self._free or len(content) > SLOT_BYTES - _HEADER.size:
            rescue = Rescue(None, told)
            rescue.settle(Kept.REFUSED)
            return rescue
        slot = self._free.pop()
        rescue = Rescue(slot, told)
        header = _HEADER.pack(_MAGIC, len(content), zlib.crc32(content))

        def written(error: BaseException | None) -> None:
            if error is not None:
                # The answer is still in memory and its commit is tried for ever.
                if not rescue.is_withdrawn:  # else the slot is being cleared
                    rescue.slot = None
                    self._free.append(slot)
                rescue.settle(Kept.REFUSED)
                return
            rescue.is_written = True
            late = asyncio.get_running_loop().call_later(SYNCED_WITHIN, rescue.settle, Kept.WRITTEN)

            def synced(error: BaseException | None) -> None:
                late.cancel()
                rescue.settle(Kept.SYNCED if error is None else Kept.WRITTEN)

            self._syncer.submit(lambda: os.fdatasync(self._descriptor), synced)

        self._writer.submit(lambda: self._write(slot, header + content), written)
        return rescue

    def withdraw(self, rescue: Rescue) -> None:
        """Free the slot of RESCUE, on whatever way it is: its answer is in the vault."""
        rescue.withdraw()
        if rescue.slot is not None:
            self.clear(rescue.slot)

    def clear(self, slot: int) -> None:
        """Free SLOT: what it held is in the vault. Waits for nothing and never fails.

        A slot that cannot be blanked stays busy, and is tried again with the next one. A
        blank that does not reach the disk is harmless: adopting twice is refused by the
        commit rule.
        """
        self._clear_again()
        self._blank(slot)

    async def beginnings(self, length: int) -> dict[int, bytes]:
        """The first LENGTH bytes of every record in the file, by slot, after what is on its way.

        Raises:
            VaultUnavailable: the disk refuses.
        """
        found: dict[int, bytes] = {}
        ended = anyio.Event()
        errors: list[BaseException] = []

        def look() -> None:
            for slot in range((os.fstat(self._descriptor).st_size - _START_BYTES) // SLOT_BYTES):
                start = os.pread(self._descriptor, _HEADER.size + length, _place(slot))
                if start[: len(_MAGIC)] == _MAGIC:
                    found[slot] = start[_HEADER.size :]

        def done(error: BaseException | None) -> None:
            errors.extend([] if error is None else [error])
            ended.set()

        self._writer.submit(look, done)
        await ended.wait()
        for error in errors:
            raise VaultUnavailable(f"the rescue file {self._path} cannot be read") from error
        return found

    def remake(self) -> None:
        """Make the file anew, with all that is in it, after somebody else took it away."""

        def remade(error: BaseException | None) -> None:
            if error is not None:
                emit(Event.RESCUE_RETAINED, file=str(self._path), reason=str(error))

        self._writer.submit(self._remake, remade)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        ended = [thread.end(ENDED_WITHIN) for thread in (self._writer, self._syncer)]
        if self._descriptor >= 0 and all(ended):
            os.close(self._descriptor)
            self._descriptor = -1

    def _blank(self, slot: int) -> None:
        def cleared(error: BaseException | None) -> None:
            if error is None:
                self._free.append(slot)
                self._is_retention_told = bool(self._uncleared)
                return
            self._uncleared.add(slot)
            if not self._is_retention_told:
                self._is_retention_told = True
                emit(Event.RESCUE_RETAINED, file=str(self._path), reason=str(error))

        self._writer.submit(lambda: self._write(slot, bytes(_HEADER.size)), cleared)

    def _clear_again(self) -> None:
        uncleared, self._uncleared = self._uncleared, set()
        for slot in sorted(uncleared):
            self._blank(slot)

    def _write(self, slot: int, data: bytes) -> None:
        """Write DATA whole; a disk that fills up in the middle leaves a torn slot."""
        written = os.pwrite(self._descriptor, data, _place(slot))
        if written != len(data):
            raise OSError("the disk took a part")

    def _read(self, slot: int) -> bytes | None:
        return _read_slot(self._descriptor, _place(slot), SLOT_BYTES, _MAGIC)

    def _remake(self) -> None:
        size = os.fstat(self._descriptor).st_size
        self._slots = max(self._slots, (size - _START_BYTES) // SLOT_BYTES)
        slots = range(self._slots)
        self._replace({slot: content for slot in slots if (content := self._read(slot))})

    def _replace(self, records: Mapping[int, bytes]) -> None:
        """Make the file anew with RECORDS in it, by slot; until it is whole, the old one stays."""
        unfinished = self._path.with_name(self._path.name + ".unfinished")
        unfinished.unlink(missing_ok=True)  # of a process that was killed, or planted
        made = os.open(unfinished, os.O_RDWR | os.O_CLOEXEC | ABSENT, 0o600)
        try:
            os.posix_fallocate(made, 0, _place(max([self._slots, *(slot + 1 for slot in records)])))
            for slot, content in records.items():
                header = _HEADER.pack(_MAGIC, len(content), zlib.crc32(content))
                os.pwrite(made, header + content, _place(slot))
            os.pwrite(made, _START.pack(_START_MAGIC, SLOT_BYTES), 0)
            os.fsync(made)
            unfinished.replace(self._path)
        except OSError:
            os.close(made)
            unfinished.unlink(missing_ok=True)
            raise
        os.close(self._descriptor)
        self._descriptor = made


def _place(slot: int) -> int:
    """Where SLOT begins; for the number of slots, where the file ends."""
    return _START_BYTES + slot * SLOT_BYTES


def _read_other_form(descriptor: int) -> list[bytes]:
    """The records of a file with slots of another size, or of the first version."""
    start = os.pread(descriptor, _START.size, 0)
    if start[:4] == _START_MAGIC:
        size, first, expected = _START.unpack(start)[1], _START_BYTES, _MAGIC
    else:
        size, first, expected = _OLD_SLOT_BYTES, 0, _OLD_MAGIC
    places = range(first, os.fstat(descriptor).st_size, size)
    found = (_read_slot(descriptor, place, size, expected) for place in places)
    return [content for content in found if content is not None]


def _read_slot(descriptor: int, place: int, size: int, expected: bytes) -> bytes | None:
    """What stands whole in the slot at PLACE."""
    header = os.pread(descriptor, _HEADER.size, place)
    if len(header) < _HEADER.size:
        return None
    magic, length, checksum = _HEADER.unpack(header)
    if magic != expected or length > size - _HEADER.size:
        return None
    content = os.pread(descriptor, length, place + _HEADER.size)
    return content if len(content) == length and zlib.crc32(content) == checksum else None
