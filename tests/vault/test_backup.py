"""Copying a vault while it is written, and what a restored one does."""

from pathlib import Path

import anyio
import pytest

from refresher.domain.grants import GrantKind
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.errors import VaultError
from refresher.vault.opening import open_vault
from refresher.vault.origin import Restored
from refresher.vault.sealing import write_key_file
from refresher.vault.sqlite.backup import back_up
from tests.vault.world import (
    NOW,
    FakeClock,
    answered,
    at,
    claim_one,
    make_seed,
    opened,
    refresh,
    sow,
)


async def test_a_backup_taken_while_writing_opens(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    vault = await open_vault(tmp_path / "vault.db", tmp_path / "key", clock=FakeClock())
    copy = tmp_path / "copy" / "vault.db"
    copy.parent.mkdir()

    async def write(number: int) -> None:
        seed = Seed(name=f"g{number}", client="c", refresh_token=Secret(f"rt-{number}"))
        await vault.apply_seed(seed, 0.5, origin="runtime")

    try:
        await write(0)
        async with anyio.create_task_group() as tasks:
            for number in range(1, 50):
                tasks.start_soon(write, number)
            await anyio.to_thread.run_sync(back_up, tmp_path / "vault.db", copy, NOW)
    finally:
        vault.close()
    assert copy.stat().st_mode & 0o777 == 0o600
    restored = await open_vault(copy, tmp_path / "key", clock=FakeClock())
    try:
        names = {grant.name for grant in await restored.grants()}
    finally:
        restored.close()
    assert "g0" in names


async def test_versions_go_on_growing_after_a_restore(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    vault = await open_vault(tmp_path / "vault.db", tmp_path / "key", clock=FakeClock())
    static = Seed(name="s", kind=GrantKind.STATIC, access_token=Secret("a"))
    try:
        await at(vault, NOW).apply_seed(static, 0.5, origin="runtime")
        back_up(tmp_path / "vault.db", tmp_path / "copy.db", NOW)
        newest = await at(vault, NOW + 10).set_token(
            "s", Secret("b"), expires_at=None, token_type="B"
        )
    finally:
        vault.close()
    restored = await open_vault(tmp_path / "copy.db", tmp_path / "key", clock=FakeClock())
    try:
        later = await at(restored, NOW + 20).set_token(
            "s", Secret("c"), expires_at=None, token_type="B"
        )
    finally:
        restored.close()
    assert later.version > newest.version


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "vault.db").touch()
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(VaultError, match="never overwritten"):
        back_up(tmp_path / "vault.db", tmp_path / "copy.db", NOW)
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_missing_vault_is_said(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="there is no vault"):
        back_up(tmp_path / "vault.db", tmp_path / "copy.db", NOW)


async def test_a_restored_copy_is_told_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        assert await at(vault, NOW).origin.learn() is None
        assert vault.origin.restored_from is None
    back_up(tmp_path / "vault.db", tmp_path / "copy.db", NOW + 5)
    (tmp_path / "copy.db").replace(tmp_path / "vault.db")
    for is_news in (True, False):
        async with opened(tmp_path) as vault:
            told = await at(vault, NOW + 10).origin.learn()
            assert told == (Restored(NOW + 5, "copy", 0) if is_news else None)
            assert vault.origin.restored_from == NOW + 5


@pytest.mark.parametrize("renewed", [None, "a refresh", "an import"])
async def test_what_is_as_old_as_the_copy_is_known(tmp_path: Path, renewed: str | None) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await refresh(vault, answered("at-1", "rt-1"))
    back_up(tmp_path / "vault.db", tmp_path / "copy.db", NOW + 5)
    (tmp_path / "copy.db").replace(tmp_path / "vault.db")
    async with opened(tmp_path) as vault:
        await at(vault, NOW + 10).origin.learn()
        await at(vault, NOW + 10).request_refresh("acme")
        if renewed == "a refresh":
            await refresh(vault, answered("at-2"), NOW + 10)
            await at(vault, NOW + 1000).request_refresh("acme")
        if renewed == "an import":
            seed = make_seed(refresh_token="rt-9")
            await at(vault, NOW + 10).apply_seed(seed, 0.5, origin="runtime")
        claim = await claim_one(vault, NOW + 1000)
        assert claim.is_of_copy is (renewed is None)
