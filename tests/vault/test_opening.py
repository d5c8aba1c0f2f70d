"""Opening the vault: its lock, its key, its schema, its files, and what is said when it fails."""

import base64
import os
import re
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from refresher.errors import VaultError, VaultInUse, VaultKeyError, VaultTooNew, VaultUnavailable
from refresher.vault import migrate
from refresher.vault.opening import open_vault
from refresher.vault.schema import metadata
from refresher.vault.sealing import Keyring, new_key_line, write_key_file
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.world import (
    FakeClock,
    access_token,
    answered,
    claim_one,
    get,
    make_seed,
    opened,
    refresh,
    sow,
)

pytestmark = pytest.mark.of_a_file

__all__ = ["lines"]

HOLDER = """
import pathlib, sys, anyio
from refresher.vault.opening import open_vault

async def main():
    await open_vault(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print("open", flush=True)
    sys.stdin.read()

anyio.run(main)
"""

NOBODY = 65534


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[Popen[str]]:
    """Another process that has the vault in FOLDER open."""
    command = [sys.executable, "-c", HOLDER, str(folder / "vault.db"), str(folder / "key")]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without the rights of root, to whom no folder is read-only."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """A folder with a key that an unprivileged user can reach, and use."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        with unprivileged():
            write_key_file(folder / "key")
        yield folder


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


async def refused(folder: Path, kind: type[VaultError]) -> str:
    """What opening the vault in FOLDER says when it fails with KIND."""
    with pytest.raises(kind) as raised:
        async with opened(folder):
            pass
    return str(raised.value)


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed(labels={"team": "a"}))
        await refresh(vault, answered("at-1", "rt-1"))
        before, holder = await get(vault), vault.holder
    async with opened(tmp_path) as vault:
        assert await get(vault) == before
        assert await access_token(vault) == "at-1"
        assert vault.holder != holder


async def test_another_process_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with held_elsewhere(tmp_path) as process:
        with pytest.raises(VaultInUse) as raised:
            await open_vault(tmp_path / "vault.db", tmp_path / "key")
        path = tmp_path / "vault.db"
        assert raised.value.pid == process.pid
        assert str(raised.value) == f"the vault {path} is in use by process {process.pid}"


async def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.wait()
        async with opened(tmp_path) as vault:
            assert (await claim_one(vault)).grant.name == "acme"


async def test_a_second_opening_in_one_process_is_refused(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(VaultInUse, match=f"in use by process {os.getpid()}"):
        await open_vault(tmp_path / "vault.db", tmp_path / "key")
    await sow(vault, make_seed())


async def test_every_file_is_its_owners_alone(tmp_path: Path) -> None:
    key_file, folder = tmp_path / "key", tmp_path / "state" / "deep"
    umask = os.umask(0)
    try:
        write_key_file(key_file)
        vault = await open_vault(folder / "vault.db", key_file, clock=FakeClock())
    finally:
        os.umask(umask)
    await sow(vault, make_seed())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [key_file, *folder.iterdir()]}
    vault.close()
    files = ("key", "vault.db", "vault.db-wal", "vault.db-shm", "vault.db.lock", "vault.db.rescue")
    assert modes == dict.fromkeys(files, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o011], ids=oct)
async def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    write_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    message = await refused(tmp_path, VaultKeyError)
    assert message.endswith(f"(mode {mode:04o}): chmod 600 {tmp_path / 'key'}")
    assert not (tmp_path / "vault.db").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file over")
@pytest.mark.parametrize(("mode", "accepted"), [(0o440, True), (0o444, False)], ids=oct)
async def test_a_key_handed_over_may_show_its_group(mode: int, *, accepted: bool) -> None:
    """A credential of systemd belongs to root and is read through its group or access list."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, NOBODY, NOBODY)
        write_key_file(folder / "key")
        os.chown(folder / "key", 0, NOBODY)
        (folder / "key").chmod(mode)
        groups = os.getgroups()
        os.setgroups([NOBODY])
        try:
            with unprivileged():
                if accepted:
                    async with opened(folder):
                        pass
                else:
                    assert "open to others" in await refused(folder, VaultKeyError)
        finally:
            os.setgroups(groups)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must hold keys of 32 bytes"),
        ("c2hvcnQ=\n", "must hold keys of 32 bytes"),
        ("not base64!\n", "is not base64"),
    ],
    ids=["empty", "short", "garbage"],
)
async def test_a_key_file_without_keys_is_refused(tmp_path: Path, content: str, said: str) -> None:
    write_key_file(tmp_path / "key")
    (tmp_path / "key").write_text(content)
    assert (await refused(tmp_path, VaultKeyError)).endswith(said)


async def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(VaultKeyError, match=r"does not exist: `refresher init` makes one"):
        await open_vault(tmp_path / "vault.db", tmp_path / "key")


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    before = (tmp_path / "key").read_text()
    with pytest.raises(FileExistsError):
        write_key_file(tmp_path / "key")
    assert (tmp_path / "key").read_text() == before


async def test_the_wrong_key_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
    right = (tmp_path / "key").read_text()
    (tmp_path / "key").write_text(new_key_line())
    message = await refused(tmp_path, VaultKeyError)
    named = Keyring([base64.b64decode(right)]).ids[0].hex()
    assert message == (
        "the vault was sealed with another key than the one configured: "
        f"{named} is in no line of the key file"
    )
    (tmp_path / "key").write_text(right)
    async with opened(tmp_path) as vault:
        assert (await claim_one(vault)).grant.name == "acme"


async def test_a_new_key_is_brought_in_beside_the_old(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
    (tmp_path / "key").write_text(new_key_line() + (tmp_path / "key").read_text())
    async with opened(tmp_path) as vault:
        await refresh(vault, answered("at-1", "rt-1"))
        assert await access_token(vault) == "at-1"
        await sow(vault, make_seed())
        assert (await get(vault)).authorization_serial == 1


async def test_a_newer_vault_is_refused_untouched(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "vault.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    message = await refused(tmp_path, VaultTooNew)
    assert message.startswith("the vault has schema 9999, which this version does not know")
    with sqlite3.connect(tmp_path / "vault.db") as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [
            ("9999",)
        ]
    connection.close()


@pytest.mark.filterwarnings("ignore:.*expression-based index.*")
async def test_migrations_make_exactly_the_schema_of_a_new_vault(tmp_path: Path) -> None:
    with migrated(tmp_path / "migrated.db", "head") as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        grown = schema_of(connection)
    async with opened(tmp_path) as vault:
        with vault._database._reader.connect() as connection:
            made = schema_of(connection)
    assert made == grown


@contextmanager
def migrated(path: Path, revision: str) -> Iterator[sa.Connection]:
    """A vault's tables as the migrations up to REVISION make them."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        yield connection
    engine.dispose()


def schema_of(connection: sa.Connection) -> dict[str, object]:
    """Every table with its columns, every other thing as SQL, and the revision.

    Not the defaults: they are for rows that were there before a migration.
    """
    things = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master").all()
    found: dict[str, object] = {}
    for kind, name, sql in things:
        if kind == "table":
            columns = connection.exec_driver_sql(f"PRAGMA table_info({name})").all()
            found[name] = {(*column[1:4], column[5]) for column in columns}
        else:
            found[name] = re.sub(r"[\s()]+", " ", sql or "").replace("'", "").lower()
    found["revision"] = connection.exec_driver_sql("SELECT * FROM alembic_version").all()
    return found


async def test_the_vault_is_set_up_to_lose_nothing(vault: Vault) -> None:
    with vault._database._writer.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vault.db", "the vault {path} cannot be opened: Is a directory"),
        ("vault.db.lock", "the vault's lock {path} cannot be opened: Is a directory"),
        ("vault.db.rescue", "the rescue file {path} cannot be prepared: Is a directory"),
    ],
)
async def test_an_unusable_file_is_named(tmp_path: Path, name: str, said: str) -> None:
    path = tmp_path / name
    path.mkdir()
    assert await refused(tmp_path, VaultUnavailable) == said.format(path=path)
    path.rmdir()
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    (tmp_path / "file").touch()
    with pytest.raises(VaultUnavailable, match=r"folder .*file/deep cannot be made: Not a dir"):
        await open_vault(tmp_path / "file" / "deep" / "vault.db", tmp_path / "key")


async def test_a_read_only_folder_is_said(readable_folder: Path) -> None:
    set_mode(readable_folder, 0o555)
    with unprivileged():
        message = await refused(readable_folder, VaultUnavailable)
    lock = readable_folder / "vault.db.lock"
    assert message == f"the vault's lock {lock} cannot be opened: Permission denied"
    set_mode(readable_folder, 0o700)


async def test_a_read_only_file_is_said(readable_folder: Path) -> None:
    with unprivileged():
        async with opened(readable_folder) as vault:
            await sow(vault, make_seed())
        (readable_folder / "vault.db").chmod(0o400)
        message = await refused(readable_folder, VaultUnavailable)
    path = readable_folder / "vault.db"
    assert message == f"the vault {path} cannot be opened: Permission denied"


async def test_a_migration_is_told_once(tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "vault.db"
    with migrated(path, "0001"):
        pass
    for _ in range(2):
        async with opened(tmp_path) as vault:
            await sow(vault, make_seed())
    [told] = lines.all()
    assert (told["event"], told["vault"]) == ("vault.migrated", str(path))


def test_a_migrations_file_begins_with_its_revision() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert migrate.known_revisions() == {each.revision for each in scripts.walk_revisions()}
    assert scripts.get_heads() == [max(migrate.known_revisions())]


async def test_a_new_vault_was_not_migrated(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path):
        assert lines.all() == []
