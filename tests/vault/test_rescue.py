"""The rescue file: answers that survive a refusing vault and a dying process."""

import os
import struct
from pathlib import Path

import pytest

from refresher.vault.rescue import SLOT_BYTES, SLOTS, RescueFile
from refresher.vault.vault import Vault
from tests.vault.world import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rescue"


def left_in(path: Path) -> dict[int, bytes]:
    """What a new process finds."""
    file = RescueFile(path)
    try:
        return file.open()
    finally:
        file.close()


def test_what_was_put_is_found_again(path: Path) -> None:
    file = RescueFile(path)
    assert file.open() == {}
    first, second = file.put(b"first"), file.put(b"second")
    file.close()
    assert left_in(path) == {first: b"first", second: b"second"}


def test_what_was_cleared_is_gone(path: Path) -> None:
    file = RescueFile(path)
    file.open()
    first, second = file.put(b"first"), file.put(b"second")
    assert first is not None
    file.clear(first)
    file.close()
    assert left_in(path) == {second: b"second"}


def test_slots_left_full_are_not_overwritten(path: Path) -> None:
    file = RescueFile(path)
    file.open()
    kept = file.put(b"kept")
    file.close()
    again = RescueFile(path)
    again.open()
    slots = [again.put(b"%d" % number) for number in range(SLOTS - 1)]
    assert kept not in slots
    assert again.put(b"too many") is None
    again.close()
    left = left_in(path)
    assert len(left) == SLOTS
    assert kept is not None
    assert left[kept] == b"kept"


def test_a_cleared_slot_is_used_again(path: Path) -> None:
    file = RescueFile(path)
    file.open()
    slots = [file.put(b"x") for _ in range(SLOTS)]
    assert slots[7] is not None
    file.clear(slots[7])
    assert file.put(b"again") == slots[7]
    file.close()
    assert left_in(path)[slots[7]] == b"again"


@pytest.mark.parametrize("size", [1, 65_536, SLOT_BYTES - 12], ids=["tiny", "capped", "full"])
def test_a_record_fills_its_slot_alone(path: Path, size: int) -> None:
    file = RescueFile(path)
    file.open()
    contents = [bytes([number]) * size for number in (1, 2, 3)]
    slots = [file.put(content) for content in contents]
    file.close()
    assert left_in(path) == dict(zip(slots, contents, strict=True))


def test_a_record_too_large_is_refused(path: Path) -> None:
    file = RescueFile(path)
    file.open()
    assert file.put(b"x" * (SLOT_BYTES - 11)) is None
    file.close()
    assert left_in(path) == {}


@pytest.mark.parametrize("written", [0, 3, 11, 12, 500, 999], ids=lambda size: f"{size} bytes")
def test_a_torn_write_is_never_half_believed(path: Path, written: int) -> None:
    """The process died with WRITTEN bytes of the slot on the disk."""
    file = RescueFile(path)
    file.open()
    whole = file.put(b"whole")
    torn = file.put(b"t" * 988)
    file.close()
    assert torn is not None
    with path.open("r+b") as disk:
        disk.seek(torn * SLOT_BYTES + written)
        disk.write(bytes(1000 - written))
    assert left_in(path) == {whole: b"whole"}


def test_a_length_beyond_the_slot_is_not_believed(path: Path) -> None:
    file = RescueFile(path)
    file.open()
    slot = file.put(b"short")
    file.close()
    assert slot is not None
    with path.open("r+b") as disk:
        disk.seek(slot * SLOT_BYTES + 4)
        disk.write(struct.pack(">I", 2**31))
    assert left_in(path) == {}


def test_the_file_has_its_room_from_the_start(path: Path) -> None:
    """Blocks are allocated, not only promised: a full disk cannot refuse an answer."""
    left_in(path)
    status = path.stat()
    assert status.st_size == SLOTS * SLOT_BYTES
    assert status.st_blocks * 512 >= SLOTS * SLOT_BYTES


def test_a_write_the_disk_refuses_is_not_kept(path: Path) -> None:
    file = RescueFile(path)
    file.open()
    writable = file._descriptor
    file._descriptor = os.open(path, os.O_RDONLY)
    assert file.put(b"refused") is None
    os.close(file._descriptor)
    file._descriptor = writable
    slots = [file.put(b"x") for _ in range(SLOTS)]
    assert None not in slots
    file.close()


async def test_a_vault_finds_what_it_rescued(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        slot = vault.rescue(b"canary-record")
        assert vault.rescued == {}
    assert b"canary" not in (tmp_path / "vault.db.rescue").read_bytes()
    assert slot is not None
    async with opened(tmp_path) as vault:
        assert vault.rescued == {slot: b"canary-record"}
        vault.forget_rescued(slot)
    async with opened(tmp_path) as vault:
        assert vault.rescued == {}


async def test_the_largest_response_can_be_rescued(vault: Vault) -> None:
    assert vault.rescue(b"x" * 65_536) is not None
