"""The rescue file: where an answer waits while the vault refuses to take it.

Preallocated, so that a full disk cannot refuse it; fixed slots, each with its length and
checksum, so that a torn write is seen and never half believed. Its content is sealed.
"""

import os
import struct
import zlib
from pathlib import Path

from refresher.errors import VaultUnavailable

SLOT_BYTES = 80 * 1024
"""A response is capped at 64 KiB; its sealed record with its identity fits one slot."""

SLOTS = 64
"""As many answers as exchanges a daemon has in flight by default."""

_HEADER = struct.Struct(">4sII")
_MAGIC = b"rsc1"


class RescueFile:
    """A file of slots; a slot is free when its header is blank."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free: list[int] = []
        self._descriptor = -1

    def open(self) -> dict[int, bytes]:
        """Open or make the file; give back what a dead process left in it, by slot.

        Raises:
            VaultUnavailable: it cannot be made: better to know before a token is spent.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
            if os.fstat(self._descriptor).st_size < SLOTS * SLOT_BYTES:
                os.posix_fallocate(self._descriptor, 0, SLOTS * SLOT_BYTES)
                os.fsync(self._descriptor)
        except OSError as error:
            raise VaultUnavailable(
                f"the rescue file {self._path} cannot be prepared: {error.strerror}"
            ) from error
        left = {slot: content for slot in range(SLOTS) if (content := self._read(slot))}
        self._free = [slot for slot in range(SLOTS) if slot not in left]
        return left

    def put(self, content: bytes) -> int | None:
        """Write CONTENT through to the disk; give back its slot, None when it cannot be kept."""
        if not self._free or len(content) > SLOT_BYTES - _HEADER.size:
            return None
        slot = self._free.pop()
        header = _HEADER.pack(_MAGIC, len(content), zlib.crc32(content))
        try:
            os.pwrite(self._descriptor, header + content, slot * SLOT_BYTES)
            os.fdatasync(self._descriptor)
        except OSError:
            # The answer is still in memory and its commit is tried for ever; nothing to add.
            self._free.append(slot)
            return None
        return slot

    def clear(self, slot: int) -> None:
        """Free SLOT: what it held is in the vault.

        A blank that does not reach the disk is harmless: adopting twice is refused by the
        commit rule.
        """
        os.pwrite(self._descriptor, bytes(_HEADER.size), slot * SLOT_BYTES)
        self._free.append(slot)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, slot: int) -> bytes | None:
        data = os.pread(self._descriptor, SLOT_BYTES, slot * SLOT_BYTES)
        magic, length, checksum = _HEADER.unpack_from(data)
        content = data[_HEADER.size : _HEADER.size + length]
        if magic != _MAGIC or zlib.crc32(content) != checksum:
            return None
        return content
