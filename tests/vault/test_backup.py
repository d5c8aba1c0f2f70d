"""Copying a vault while it is written, and what a restored one does."""

from pathlib import Path

import anyio
import pytest

from refresher.domain.grants import GrantKind, Seed
from refresher.domain.secret import Secret
from refresher.errors import VaultError
from refresher.vault.backup import back_up
from refresher.vault.sealing import write_key_file
from refresher.vault.vault import open_vault

NOW = 1_800_000_000.0


async def test_a_backup_taken_while_writing_opens(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    vault = await open_vault(tmp_path / "vault.db", tmp_path / "key")
    copy = tmp_path / "copy" / "vault.db"
    copy.parent.mkdir()

    async def write(number: int) -> None:
        seed = Seed(name=f"g{number}", client="c", refresh_token=Secret(f"rt-{number}"))
        await vault.apply_seed(seed, NOW, 0.5, origin="runtime")

    try:
        await write(0)
        async with anyio.create_task_group() as tasks:
            for number in range(1, 50):
                tasks.start_soon(write, number)
            await anyio.to_thread.run_sync(back_up, tmp_path / "vault.db", copy)
    finally:
        vault.close()
    assert copy.stat().st_mode & 0o777 == 0o600
    restored = await open_vault(copy, tmp_path / "key")
    try:
        names = {grant.name for grant in await restored.grants()}
    finally:
        restored.close()
    assert "g0" in names


async def test_versions_go_on_growing_after_a_restore(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    vault = await open_vault(tmp_path / "vault.db", tmp_path / "key")
    static = Seed(name="s", kind=GrantKind.STATIC, access_token=Secret("a"))
    try:
        await vault.apply_seed(static, NOW, 0.5, origin="runtime")
        back_up(tmp_path / "vault.db", tmp_path / "copy.db")
        newest = await vault.set_token("s", Secret("b"), NOW + 10, expires_at=None, token_type="B")
    finally:
        vault.close()
    restored = await open_vault(tmp_path / "copy.db", tmp_path / "key")
    try:
        later = await restored.set_token(
            "s", Secret("c"), NOW + 20, expires_at=None, token_type="B"
        )
    finally:
        restored.close()
    assert later.version > newest.version


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "vault.db").touch()
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(VaultError, match="never overwritten"):
        back_up(tmp_path / "vault.db", tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_missing_vault_is_said(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="there is no vault"):
        back_up(tmp_path / "vault.db", tmp_path / "copy.db")
