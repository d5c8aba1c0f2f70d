"""The rescue file: answers that survive a refusing vault and a dying process."""

import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from refresher.domain.logins import NO_LOGIN
from refresher.domain.unread import RawAnswer
from refresher.engine.records import exchange_record, login_record, read_record
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault import rescue as rescue_module
from refresher.vault.opening import open_vault
from refresher.vault.rescue import SLOT_BYTES, SPARE_SLOTS, Kept, Rescue, RescueFile
from refresher.vault.threads import OwnThread
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.support.threads import Inline
from tests.support.waiting import eventually
from tests.vault.world import answered, claim_one, get, login_of, make_seed, opened, rescue, sow

__all__ = ["lines"]

SLOTS = 5
LARGEST_ANSWER = 256 * 1024
START = 4096
"""Where the first slot begins."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rescue"


def rescue_file(path: Path, slots: int = SLOTS) -> RescueFile:
    """A file that does everything at once, so that its content can be looked at."""
    return RescueFile(path, slots=slots, writer=Inline(), syncer=Inline())


def left_in(path: Path, slots: int = SLOTS) -> dict[int, bytes]:
    """What a new process finds."""
    file = rescue_file(path, slots)
    try:
        return file.open()
    finally:
        file.close()


def put(file: RescueFile, content: bytes) -> int | None:
    """Put CONTENT; its slot."""
    return file.put(content, lambda _: None).slot


async def test_what_was_put_is_found_again(path: Path) -> None:
    file = rescue_file(path)
    assert file.open() == {}
    first, second = put(file, b"first"), put(file, b"second")
    file.close()
    assert left_in(path) == {first: b"first", second: b"second"}


async def test_what_was_cleared_is_gone(path: Path) -> None:
    file = rescue_file(path)
    file.open()
    first, second = put(file, b"first"), put(file, b"second")
    assert first is not None
    file.clear(first)
    file.close()
    assert left_in(path) == {second: b"second"}


async def test_slots_left_full_are_not_overwritten(path: Path) -> None:
    file = rescue_file(path)
    file.open()
    kept = put(file, b"kept")
    file.close()
    again = rescue_file(path)
    again.open()
    slots = [put(again, b"%d" % number) for number in range(SLOTS - 1)]
    assert kept not in slots
    assert put(again, b"too many") is None
    again.close()
    left = left_in(path)
    assert len(left) == SLOTS
    assert kept is not None
    assert left[kept] == b"kept"


async def test_a_cleared_slot_is_used_again(path: Path) -> None:
    file = rescue_file(path)
    file.open()
    slots = [put(file, b"x") for _ in range(SLOTS)]
    assert slots[3] is not None
    file.clear(slots[3])
    assert put(file, b"again") == slots[3]
    file.close()
    assert left_in(path)[slots[3]] == b"again"


@pytest.mark.parametrize("size", [1, 65_536, SLOT_BYTES - 12], ids=["tiny", "common", "full"])
async def test_a_record_fills_its_slot_alone(path: Path, size: int) -> None:
    file = rescue_file(path)
    file.open()
    contents = [bytes([number]) * size for number in (1, 2, 3)]
    slots = [put(file, content) for content in contents]
    file.close()
    assert left_in(path) == dict(zip(slots, contents, strict=True))


async def test_a_record_too_large_is_refused(path: Path) -> None:
    file, told = rescue_file(path), list[Kept]()
    file.open()
    assert file.put(b"x" * (SLOT_BYTES - 11), told.append).slot is None
    assert told == [Kept.REFUSED]
    file.close()
    assert left_in(path) == {}


@pytest.mark.parametrize("written", [0, 3, 11, 12, 500, 999], ids=lambda size: f"{size} bytes")
async def test_a_torn_write_is_never_half_believed(path: Path, written: int) -> None:
    """The process died with WRITTEN bytes of the slot on the disk."""
    file = rescue_file(path)
    file.open()
    whole = put(file, b"whole")
    torn = put(file, b"t" * 988)
    file.close()
    assert torn is not None
    with path.open("r+b") as disk:
        disk.seek(START + torn * SLOT_BYTES + written)
        disk.write(bytes(1000 - written))
    assert left_in(path) == {whole: b"whole"}


async def test_a_length_beyond_the_slot_is_not_believed(path: Path) -> None:
    file = rescue_file(path)
    file.open()
    slot = put(file, b"short")
    file.close()
    assert slot is not None
    with path.open("r+b") as disk:
        disk.seek(START + slot * SLOT_BYTES + 4)
        disk.write(struct.pack(">I", 2**31))
    assert left_in(path) == {}


def test_the_file_has_its_room_from_the_start(path: Path) -> None:
    """Blocks are allocated, not only promised: a full disk cannot refuse an answer."""
    left_in(path)
    status = path.stat()
    assert status.st_size == START + SLOTS * SLOT_BYTES
    assert status.st_blocks * 512 >= status.st_size


def test_a_copy_with_holes_gets_its_room_again(path: Path) -> None:
    left_in(path)
    content = path.read_bytes()
    with path.open("wb") as disk:
        disk.write(content[:START])
        disk.truncate(len(content))
    assert path.stat().st_blocks * 512 < len(content)
    left_in(path)
    assert path.stat().st_blocks * 512 >= len(content)


async def test_more_workers_get_more_slots_and_fewer_lose_none(path: Path) -> None:
    file = rescue_file(path, 2)
    file.open()
    kept = {put(file, b"a"): b"a", put(file, b"b"): b"b"}
    file.close()
    grown = rescue_file(path, 4)
    assert grown.open() == kept
    assert put(grown, b"c") is not None
    assert put(grown, b"d") is not None
    grown.close()
    assert len(left_in(path, 1)) == 4


def write_old(path: Path, records: dict[int, bytes]) -> None:
    """A file as the first version wrote it."""
    size = 80 * 1024
    content = bytearray(64 * size)
    for slot, record in records.items():
        header = struct.pack(">4sII", b"rsc1", len(record), zlib.crc32(record))
        content[slot * size : slot * size + 12 + len(record)] = header + record
    path.write_bytes(content)


def test_a_file_of_the_first_version_is_taken_over(path: Path) -> None:
    """More records than this process would have slots, and each as large as there was."""
    records = {slot: bytes([slot + 1]) * (80 * 1024 - 12) for slot in range(64)}
    write_old(path, records)
    left = left_in(path, 1)
    assert sorted(left.values()) == sorted(records.values())
    assert left_in(path, 1) == left


@pytest.mark.parametrize("damage", ["cut off", "torn", "empty"])
def test_an_old_file_that_is_damaged_gives_what_is_whole(path: Path, damage: str) -> None:
    write_old(path, {0: b"whole", 2: b"t" * 988})
    content = bytearray(path.read_bytes())
    if damage == "cut off":
        content = content[: 2 * 80 * 1024 + 7]
    else:
        content[2 * 80 * 1024 + 500 :] = bytes(100)
    path.write_bytes(b"" if damage == "empty" else content)
    assert list(left_in(path).values()) == ([] if damage == "empty" else [b"whole"])


def test_an_old_file_stays_until_the_new_one_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old(path, {7: b"only one"})
    before = path.read_bytes()

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(VaultUnavailable, match="No space left"):
            left_in(path)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert list(left_in(path).values()) == [b"only one"]


async def test_a_write_the_disk_refuses_is_not_kept(path: Path) -> None:
    file, told = rescue_file(path), list[Kept]()
    file.open()
    with unwritable(file, path):
        refused = file.put(b"refused", told.append)
    assert (refused.slot, refused.is_written, told) == (None, False, [Kept.REFUSED])
    assert None not in [put(file, b"x") for _ in range(SLOTS)]
    file.close()


@contextmanager
def unwritable(file: RescueFile, path: Path) -> Iterator[None]:
    """The disk takes nothing into FILE while the block lasts."""
    writable = file._descriptor
    file._descriptor = os.open(path, os.O_RDONLY)
    yield
    os.close(file._descriptor)
    file._descriptor = writable


async def test_a_slot_that_cannot_be_cleared_stays_busy(path: Path, lines: Lines) -> None:
    """It costs nobody anything: it is said once, and cleared with the next one."""
    file = rescue_file(path)
    file.open()
    stuck = [file.put(content, lambda _: None) for content in (b"one", b"two")]
    with unwritable(file, path):
        for one in stuck:
            file.withdraw(one)
        free = len(file._free)
        assert lines.events() == ["rescue.retained"]
    assert free == SLOTS - 2
    assert put(file, b"three") is not None
    assert len(file._free) == SLOTS - 1
    file.close()
    assert list(left_in(path).values()) == [b"three"]


async def own_threads(path: Path) -> RescueFile:
    file = RescueFile(
        path, slots=SLOTS, writer=OwnThread("test writer"), syncer=OwnThread("test syncer")
    )
    await anyio.to_thread.run_sync(file.open)
    return file


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """The disk does not come back from the system call NAME until the block ends."""
    goes_on, real = threading.Event(), getattr(os, name)

    def hang(*arguments: object) -> object:
        goes_on.wait(300)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, hang)
        try:
            yield
        finally:
            goes_on.set()


async def test_a_disk_that_hangs_is_told_apart_and_delays_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written outlives the process; the disk has not confirmed it."""
    monkeypatch.setattr(rescue_module, "SYNCED_WITHIN", 0.05)
    file, told = await own_threads(path), list[Kept]()
    with hanging(monkeypatch, "fdatasync"):
        rescues = [file.put(b"%d" % number, told.append) for number in range(SLOTS)]
        await eventually(lambda: len(told) == SLOTS, "the verdicts")
        assert set(told) == {Kept.WRITTEN}
        assert all(one.is_written for one in rescues)
        assert len(left_in(path)) == SLOTS
    file.close()
    assert len(told) == SLOTS


async def test_a_write_that_hangs_promises_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, told = await own_threads(path), list[Kept]()
    with hanging(monkeypatch, "pwrite"):
        one = file.put(b"one", told.append)
        await anyio.sleep(0.05)
        assert (one.is_written, told) == (False, [])
        file.withdraw(one)  # its commit came through meanwhile
    await eventually(lambda: len(file._free) == SLOTS, "the slot")
    file.close()
    assert told == []
    assert left_in(path) == {}


async def test_a_sync_that_fails_is_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    file, told = await own_threads(path), list[Kept]()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        one = file.put(b"one", told.append)
        await one.is_settled.wait()
    file.close()
    assert told == [Kept.WRITTEN]
    assert left_in(path) == {one.slot: b"one"}


async def test_a_process_without_threads_left_still_rescues(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    await rescue(vault, b"one")
    await sow(vault, make_seed())
    assert (await get(vault)).name == "acme"


async def test_a_vault_finds_what_it_rescued(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        slot = await rescue(vault, b"canary-record")
        assert vault.rescued.left == {}
    assert b"canary" not in (tmp_path / "vault.db.rescue").read_bytes()
    async with opened(tmp_path) as vault:
        assert vault.rescued.left == {slot: b"canary-record"}
        vault.rescued.forget(vault.rescued.left[slot])
    async with opened(tmp_path) as vault:
        assert vault.rescued.left == {}


async def test_a_record_no_key_opens_stays_and_stops_nobody(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path) as vault:
        slot = await rescue(vault, b"canary-record")
    path = tmp_path / "vault.db.rescue"
    sealed = left_in(path, 1)[slot]
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with path.open("r+b") as disk:
        disk.seek(START + slot * SLOT_BYTES)
        disk.write(struct.pack(">4sII", b"slot", len(altered), zlib.crc32(altered)) + altered)
    async with opened(tmp_path) as vault:
        assert vault.rescued.left == {}
        assert await rescue(vault, b"another") != slot
    assert [line["event"] for line in lines.all()] == ["rescue.retained"]
    assert left_in(path, 1)[slot] == altered


async def test_every_answer_that_can_be_open_has_room(tmp_path: Path) -> None:
    """Each as large as an answer may be."""
    workers = 3
    async with opened(tmp_path) as vault:
        key_file = tmp_path / "key"
        assert vault.rescued.put(b"", lambda _: None).slot is not None
    vault = await open_vault(tmp_path / "vault.db", key_file, answers=2 * workers)
    kept = [await rescue(vault, os.urandom(LARGEST_ANSWER)) for _ in range(2 * workers)]
    assert len(set(kept)) == 2 * workers
    assert SPARE_SLOTS > 1
    vault.close()


RECORDS: dict[str, Callable[[], tuple[str, dict[str, str]]]] = {
    "one long token": lambda: ("a" * 64 * 1024, {"x": "b" * (LARGEST_ANSWER - 70_000)}),
    "another script": lambda: ("a", {"x": "\u4e2d" * (LARGEST_ANSWER // 3)}),
    "control characters": lambda: ("a", {"x": "\x01" * (LARGEST_ANSWER // 6)}),
    "half a surrogate": lambda: ("a", {"x": "\ud800" * (LARGEST_ANSWER // 6)}),
}


@pytest.mark.parametrize("kind", RECORDS)
async def test_the_tokens_of_the_largest_answer_can_be_rescued(vault: Vault, kind: str) -> None:
    await sow(vault, make_seed())
    access_token, extras = RECORDS[kind]()
    grant = await get(vault)
    change = login_of(grant, answered(access_token, "r" * 8192, extras=extras))
    record = login_record(grant, change, NO_LOGIN)
    await rescue(vault, record())
    read = read_record(record()).on(grant)[1].tokens
    assert read == change.tokens


@pytest.mark.parametrize("filler", [b"\xff", b"\n", b"\x00", b'"'], ids=repr)
async def test_the_largest_answer_that_nobody_understood_can_be_rescued(
    vault: Vault, filler: bytes
) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    raw = RawAnswer(status=200, body=filler * LARGEST_ANSWER, sent_at=1.0)
    change = login_of(claim.grant, answered("a" * 64 * 1024, "r" * 8192))
    change = type(change)(grant=change.grant, tokens=change.tokens, kept=raw)
    record = exchange_record(claim, change)
    assert record is not None
    await rescue(vault, record())
    assert read_record(record()).on(claim.grant)[1].kept == raw


def test_a_record_of_the_first_version_is_read() -> None:
    record = (
        b'{"name": "acme", "uid": "u", "authorization_serial": 1, "intent": {"sequence": 1, '
        b'"presented": "00", "first_sent_at": 1.0, "attempts": 1}, "redirect_uri": null, '
        b'"after": {"state": "fresh", "is_open": true}, "tokens": null, '
        b'"kept": {"status": 200, "body": "eA==", "sent_at": 1.0}}'
    )
    rescued = read_record(record)
    kept = rescued.on(rescued.stray)[1].kept
    assert kept == RawAnswer(status=200, body=b"x", sent_at=1.0)


def test_a_rescue_is_told_once() -> None:
    told: list[Kept] = []
    rescue = Rescue(1, told.append)
    rescue.settle(Kept.WRITTEN)
    rescue.settle(Kept.SYNCED)
    assert told == [Kept.WRITTEN]
    assert Event.ANSWER_RESCUED.value == "answer.rescued"
