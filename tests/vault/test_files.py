"""The vault's files are looked at from outside, and what becomes of them is known."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from refresher.errors import VaultUnavailable
from refresher.vault.opening import open_vault
from refresher.vault.sqlite.files import How, Part
from refresher.vault.vault import Vault
from tests.vault.world import (
    answered,
    claim_one,
    finish,
    get,
    make_seed,
    opened,
    refresh,
    rescue,
    rooms,
    sow,
)

pytestmark = pytest.mark.of_a_file

PARTS = {
    "": Part.VAULT,
    "-wal": Part.VAULT,
    "-shm": Part.VAULT,
    ".lock": Part.LOCK,
    ".rescue": Part.RESCUE,
}


def delete(file: Path) -> None:
    file.unlink()


def replace_file(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.replace(file)


def truncate(file: Path) -> None:
    os.truncate(file, 4096)


@pytest.mark.parametrize("ending", PARTS)
@pytest.mark.parametrize(
    ("hurt", "how"),
    [(delete, How.DELETED), (replace_file, How.REPLACED)],
    ids=["deleted", "replaced"],
)
async def test_what_is_gone_or_another_one_is_told_once(
    vault: Vault, tmp_path: Path, ending: str, hurt: Callable[[Path], None], how: How
) -> None:
    assert await vault.files.look() == []
    file = tmp_path / f"vault.db{ending}"
    hurt(file)
    [vanished] = await vault.files.look()
    assert (vanished.file, vanished.part, vanished.how) == (file, PARTS[ending], how)
    assert await vault.files.look() == []


@pytest.mark.parametrize(("ending", "part"), [("", Part.VAULT), (".rescue", Part.RESCUE)])
async def test_a_file_that_shrinks_is_truncated(
    vault: Vault, tmp_path: Path, ending: str, part: Part
) -> None:
    if part is Part.VAULT:
        await sow(vault, *(make_seed(f"g{n}", f"rt-{n}") for n in range(100)))
        with closing(sqlite3.connect(tmp_path / "vault.db")) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert await vault.files.look() == []
    truncate(tmp_path / f"vault.db{ending}")
    [vanished] = await vault.files.look()
    assert (vanished.part, vanished.how) == (part, How.TRUNCATED)


async def test_an_empty_wal_is_a_legal_one(vault: Vault, tmp_path: Path) -> None:
    await sow(vault, make_seed())
    with closing(sqlite3.connect(tmp_path / "vault.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "vault.db-wal").stat().st_size == 0
    assert await vault.files.look() == []
    await refresh(vault, answered("at-1", "rt-1"))
    assert await vault.files.look() == []


async def test_a_vault_behind_a_link_is_looked_at_where_it_is(tmp_path: Path) -> None:
    """The link is a folder's: the vault itself must be none."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    async with opened(tmp_path / "elsewhere"):
        pass
    (tmp_path / "here").symlink_to(tmp_path / "elsewhere")
    vault = await open_vault(tmp_path / "here" / "vault.db", tmp_path / "elsewhere" / "key")
    try:
        assert await vault.files.look() == []
        (tmp_path / "elsewhere" / "vault.db-wal").unlink()
        assert [one.part for one in await vault.files.look()] == [Part.VAULT]
    finally:
        vault.close()


async def test_looking_costs_no_lock(vault: Vault, tmp_path: Path) -> None:
    """Closing any descriptor of an SQLite file drops every lock of the process on it."""
    await sow(vault, make_seed())
    held = posix_locks(tmp_path / "vault.db-shm")
    assert held
    for _ in range(3):
        await vault.files.look()
        await vault.origin.count()
    await vault.save(tmp_path / "copy.db")
    assert posix_locks(tmp_path / "vault.db-shm") == held


def posix_locks(file: Path) -> list[list[str]]:
    """The POSIX locks of this process on FILE, by the kernel's word (proc_locks(5))."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    mine = [line for line in lines if line[1] == "POSIX" and line[4] == str(os.getpid())]
    return [line[1:] for line in mine if line[5].endswith(f":{file.stat().st_ino}")]


@pytest.mark.parametrize("ending", PARTS)
async def test_nothing_is_sent_any_more(vault: Vault, tmp_path: Path, ending: str) -> None:
    """What is out may still be written, unless nobody would find it."""
    await sow(vault, make_seed(), make_seed("other", "rt-o"))
    claim = await claim_one(vault)
    (tmp_path / f"vault.db{ending}").unlink()
    await vault.files.look()
    with pytest.raises(VaultUnavailable, match="was deleted while it was in use"):
        await vault.claim(rooms(crm=9), 9)
    with pytest.raises(VaultUnavailable, match="was deleted"):
        await vault.is_held(claim)
    with pytest.raises(VaultUnavailable, match="was deleted"):
        await vault.prove_writable()
    if PARTS[ending] is Part.VAULT:
        with pytest.raises(VaultUnavailable, match="was deleted"):
            await finish(vault, claim, answered("at-1", "rt-1"))
    else:
        await finish(vault, claim, answered("at-1", "rt-1"))
    assert [grant.name for grant in await vault.grants()] == ["acme", "other"]


@pytest.mark.parametrize("endings", [[""], ["-wal"], ["-shm"], list(PARTS)], ids=str)
@pytest.mark.parametrize("hurt", [delete, replace_file])
async def test_a_vault_that_was_taken_away_is_saved_whole(
    tmp_path: Path, endings: list[str], hurt: Callable[[Path], None]
) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await refresh(vault, answered("at-1", "rt-1"))
        for ending in endings:
            hurt(tmp_path / f"vault.db{ending}")
        await refresh_quietly(vault)
        await vault.files.look()
        await vault.save(tmp_path / "saved.db")
    (tmp_path / "new").mkdir()
    (tmp_path / "saved.db").rename(tmp_path / "new" / "vault.db")
    (tmp_path / "key").rename(tmp_path / "new" / "key")
    async with opened(tmp_path / "new") as vault:
        assert (await get(vault)).refresh_token_fingerprint is not None
        assert [grant.name for grant in await vault.grants()] == ["acme", "late"]


async def refresh_quietly(vault: Vault) -> None:
    """What is written between the loss and the look at it is in the copy, too."""
    await sow(vault, make_seed("late", "rt-late"))


async def test_a_rescue_file_is_made_anew_with_what_is_in_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        first = await rescue(vault, b"an answer")
        (tmp_path / "vault.db.rescue").unlink()
        await vault.files.look()
        vault.rescued.remake()
        second = await rescue(vault, b"another")
    async with opened(tmp_path) as vault:
        assert vault.rescued.left == {first: b"an answer", second: b"another"}
