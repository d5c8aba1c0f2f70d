"""A backup comes into the vault's place whole, or not at all."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from refresher.engine.records import exchange_record
from refresher.engine.recovery import recover
from refresher.errors import RefresherError, VaultError
from refresher.vault.sealing import Keyring, write_key_file
from refresher.vault.sqlite.backup import back_up
from refresher.vault.sqlite.restoring import examine, finish, stage
from tests.vault.world import (
    CRM,
    NOW,
    answered,
    at,
    claim_one,
    get,
    holds,
    make_seed,
    opened,
    outcome_of,
    refresh,
    rescue,
    sow,
)

KILLED = """
import os, shutil, signal, sys
from itertools import count
from pathlib import Path
from refresher.vault.sqlite import restoring
from refresher.vault.sealing import Keyring

lives = Path(sys.argv[1])
folders = lives.parent

def restore_until(left, folder):
    def killing(work):
        def do(*arguments, **more):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments, **more)
        return do

    vault = folder / "vault.db"
    backup = restoring.examine(folder / "backup.db", vault, Keyring.load(folder / "key"))
    for name in ("rename", "unlink"):
        setattr(Path, name, killing(getattr(Path, name)))
    os.fsync, os.open = killing(os.fsync), killing(os.open)
    restoring.stage(backup, vault)
    restoring.finish(vault)

for step in count(1):
    folder = Path(shutil.copytree(lives, folders / str(step)))
    child = os.fork()
    if child == 0:
        restore_until(step, folder)
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        print(step)
        break
"""
"""Restores a backup again and again, each time killed right before its next change of the disk;
prints how often until it was not."""


async def two_lives(folder: Path) -> None:
    """A vault of which a kill has left its -wal, and a backup of before its last refresh."""
    (folder / "killed").mkdir()
    async with opened(folder / "killed") as vault:
        await sow(vault, make_seed())
        await refresh(vault, answered("at-1", "rt-1"))
        back_up(folder / "killed" / "vault.db", folder / "backup.db", NOW + 5)
        await at(vault, NOW + 60).request_refresh("acme")
        await refresh(vault, answered("at-2", "rt-2"), NOW + 60)
        await sow(vault, *(make_seed(f"late{n}", f"rt-late{n}") for n in range(30)))
        copy_files(folder / "killed", folder)


def copy_files(folder: Path, other: Path) -> None:
    """Copy what lies in FOLDER, as a dead process leaves it."""
    for file in folder.iterdir():
        if file.is_file():
            shutil.copy(file, other / file.name)


def keyring(folder: Path) -> Keyring:
    return Keyring.load(folder / "key")


def restore(folder: Path, file: str = "backup.db") -> Path | None:
    """What the command does with the vault in FOLDER."""
    vault = folder / "vault.db"
    stage(examine(folder / file, vault, keyring(folder)), vault)
    return finish(vault)


async def life(folder: Path) -> str:
    """Which of the two lives the vault in FOLDER is of, having been opened."""
    async with opened(folder) as vault:
        names = {grant.name for grant in await vault.grants()}
        is_new = holds(vault, await get(vault), "rt-2")
        assert is_new is (len(names) == 31)
        assert not is_new or vault.origin.restored_from is None
        return "old" if is_new else "backup"


async def test_a_backup_is_in_place_with_nothing_of_the_vault_before(tmp_path: Path) -> None:
    await two_lives(tmp_path)
    kept = restore(tmp_path)
    assert kept is not None
    assert kept.exists()
    assert kept.with_name(f"{kept.name}-wal").stat().st_size
    assert not (tmp_path / "vault.db-wal").exists()
    async with opened(tmp_path) as vault:
        told = await at(vault, NOW + 100).origin.learn()
        assert told is not None
        assert (told.copied_at, told.reason, told.count) == (NOW + 5, "copy", 1)
        assert [grant.name for grant in await vault.grants()] == ["acme"]
        assert holds(vault, await get(vault), "rt-1")


async def test_a_restore_can_be_undone_with_what_was_kept(tmp_path: Path) -> None:
    await two_lives(tmp_path)
    kept = restore(tmp_path)
    assert kept is not None
    restore(tmp_path, kept.name)
    assert await life(tmp_path) == "old"


async def test_a_killed_restore_leaves_one_of_both(tmp_path: Path) -> None:
    """At every change of the disk; who opens the vault next ends what was decided."""
    (tmp_path / "lives").mkdir()
    await two_lives(tmp_path / "lives")
    done = await anyio.run_process([sys.executable, "-c", KILLED, str(tmp_path / "lives")])
    seen = [await life(tmp_path / str(step)) for step in range(1, int(done.stdout) + 1)]
    decided = seen.index("backup")
    assert 2 < decided < len(seen) - 5
    assert seen == ["old"] * decided + ["backup"] * (len(seen) - decided)


async def test_what_came_after_the_backup_is_adopted_from_the_rescue_file(tmp_path: Path) -> None:
    """The successor of the very refresh token that the backup holds; the vault was lost."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        claim = await claim_one(vault)
        back_up(tmp_path / "vault.db", tmp_path / "backup.db", NOW + 5)
        record = exchange_record(claim, outcome_of(claim, answered("at-1", "rt-1")))
        assert record is not None
        await rescue(vault, record())
    restore(tmp_path)
    async with opened(tmp_path) as vault:
        await recover(vault, {"crm": CRM}, vault.clock)
        assert holds(vault, await get(vault), "rt-1")


@pytest.mark.parametrize("pages", ["few", "many"])
async def test_a_backup_copied_beside_a_strange_wal_is_recognised(
    tmp_path: Path, pages: str
) -> None:
    await two_lives(tmp_path)
    if pages == "few":  # a wal that holds little, as after a checkpoint
        os.truncate(tmp_path / "vault.db-wal", 32 + 2 * (24 + 4096))
    shutil.copy(tmp_path / "backup.db", tmp_path / "vault.db")
    wal = (tmp_path / "vault.db-wal").read_bytes()
    with pytest.raises(VaultError) as told:
        async with opened(tmp_path):
            pass
    for named in ("vault.db is a backup of 2027", "vault.db-wal", "refresher vault restore"):
        assert named in str(told.value)
    assert (tmp_path / "vault.db-wal").read_bytes() == wal
    kept = restore(tmp_path, "vault.db")
    assert kept is not None
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == wal
    assert await life(tmp_path) == "backup"


async def test_a_backup_copied_to_its_place_alone_is_taken_up(tmp_path: Path) -> None:
    """However soon after it the process dies, what it wrote since is its own."""
    await two_lives(tmp_path)
    for ending in ("-wal", "-shm"):
        (tmp_path / f"vault.db{ending}").unlink()
    shutil.copy(tmp_path / "backup.db", tmp_path / "vault.db")
    (tmp_path / "dead").mkdir()
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed("later", "rt-l"))
        copy_files(tmp_path, tmp_path / "dead")
    async with opened(tmp_path / "dead") as vault:
        assert [grant.name for grant in await vault.grants()] == ["acme", "later"]
        told = await at(vault, NOW + 100).origin.learn()
        assert told is not None
        assert told.copied_at == NOW + 5


def another_key(folder: Path) -> None:
    (folder / "key").unlink()
    write_key_file(folder / "key")


def scribble(folder: Path) -> None:
    (folder / "backup.db").write_bytes(b"scribble" * 1000)


def other_database(folder: Path) -> None:
    (folder / "backup.db").unlink()
    with closing(sqlite3.connect(folder / "backup.db")) as other, other:
        other.execute("CREATE TABLE notes (text)")


def damage(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "backup.db")) as backup:
        [[root]] = backup.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'kept_answers'")
    with (folder / "backup.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)


def of_the_future(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "backup.db")) as backup, backup:
        backup.execute("UPDATE alembic_version SET version_num = '9999'")


def gone(folder: Path) -> None:
    (folder / "backup.db").unlink()


def lose(folder: Path) -> None:
    for file in folder.glob("vault.db*"):
        file.unlink()


def the_vault(folder: Path) -> None:
    (folder / "backup.db").unlink()
    (folder / "backup.db").symlink_to(folder / "vault.db")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (another_key, "sealed with another key"),
        (scribble, "is no vault"),
        (other_database, "is no vault"),
        (damage, "is damaged"),
        (of_the_future, "written by a newer refresher"),
        (gone, "cannot be read: No such file"),
        (the_vault, "is the vault itself"),
    ],
)
async def test_what_is_no_backup_of_this_vault_changes_nothing(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    await two_lives(tmp_path)
    spoil(tmp_path)
    with pytest.raises(RefresherError, match=told):
        restore(tmp_path)
    if spoil is not another_key:
        assert await life(tmp_path) == "old"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o500)
    yield
    folder.chmod(0o700)


async def test_a_backup_may_lie_where_nothing_can_be_written(tmp_path: Path) -> None:
    await two_lives(tmp_path)
    (tmp_path / "archive").mkdir()
    (tmp_path / "backup.db").rename(tmp_path / "archive" / "backup.db")
    with read_only(tmp_path / "archive"):
        restore(tmp_path, "archive/backup.db")
    assert await life(tmp_path) == "backup"


async def test_a_vault_that_is_gone_is_put_back(tmp_path: Path) -> None:
    await two_lives(tmp_path)
    lose(tmp_path)
    restore(tmp_path)
    assert await life(tmp_path) == "backup"
