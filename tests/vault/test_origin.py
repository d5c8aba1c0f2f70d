"""A vault whose file was put back to an older one is noticed where it can be."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from refresher.clock import SinceBoot
from refresher.errors import VaultError
from refresher.vault.origin import Restored
from refresher.vault.vault import Vault
from tests.vault.world import (
    NOW,
    answered,
    at,
    claim_one,
    get,
    make_seed,
    opened,
    refresh,
    sow,
)

pytestmark = pytest.mark.of_a_file


async def used(folder: Path, *, renewed: bool = False) -> None:
    """A vault in FOLDER that was open once more."""
    async with opened(folder) as vault:
        assert await at(vault, NOW).origin.learn() is None
        if renewed:
            await at(vault, NOW).request_refresh("acme")
            await refresh(vault, answered("at-2", "rt-2"), NOW + 100)
            await at(vault, NOW + 100).origin.count()


async def sown(folder: Path) -> Path:
    """A vault in FOLDER with one fresh grant; a copy of its file, made by hand."""
    async with opened(folder) as vault:
        await sow(vault, make_seed())
        await refresh(vault, answered("at-1", "rt-1"))
        await at(vault, NOW).origin.learn()
        await at(vault, NOW + 5, SinceBoot("boot", 1.0)).prove_writable()
    return Path(shutil.copy(folder / "vault.db", folder / "older"))


async def test_a_file_put_back_is_told_once_and_its_refusals_are_of_a_copy(
    tmp_path: Path,
) -> None:
    older = await sown(tmp_path)
    await used(tmp_path, renewed=True)
    older.replace(tmp_path / "vault.db")
    async with opened(tmp_path) as vault:
        told = await at(vault, NOW + 200).origin.learn(last_seen=NOW + 5)
        assert told == Restored(NOW + 5, "rolled_back", 1)
        assert await at(vault, NOW + 200).origin.learn() is None
        await at(vault, NOW + 200).request_refresh("acme")
        assert (await claim_one(vault, NOW + 200)).is_of_copy
    async with opened(tmp_path) as vault:
        assert await at(vault, NOW + 300).origin.learn() is None
        assert vault.origin.restored_from == NOW + 200


async def test_it_never_keeps_a_vault_from_being_opened(tmp_path: Path) -> None:
    older = await sown(tmp_path)
    await used(tmp_path)
    older.replace(tmp_path / "vault.db")
    async with opened(tmp_path) as vault:
        assert (await get(vault)).name == "acme"


async def test_a_vault_that_goes_on_is_no_copy(tmp_path: Path) -> None:
    await sown(tmp_path)
    for _ in range(3):
        await used(tmp_path, renewed=True)


async def test_a_file_put_back_under_a_daemon_is_told(vault: Vault) -> None:
    await at(vault, NOW).origin.learn()
    assert await at(vault, NOW + 60).origin.count() is None
    await vault._write(
        lambda tx: tx.connection.exec_driver_sql(
            "UPDATE facts SET value = replace(value, ' 2]', ' 1]') WHERE name = 'count'"
        )
    )
    assert await at(vault, NOW + 120).origin.count() == Restored(NOW + 120, "rolled_back", 0)
    assert await at(vault, NOW + 180).origin.count() is None


def remove(file: Path) -> None:
    file.unlink()


def fill(file: Path) -> None:
    file.write_bytes(b"\xff\x00 7" * 100)


def of_another(file: Path) -> None:
    file.write_text("0123456789abcdef 99999\n")


def fifo(file: Path) -> None:
    import os  # noqa: PLC0415  of this one case

    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("spoil", [remove, fill, of_another, fifo])
async def test_a_counter_that_tells_nothing_of_this_vault_is_none(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    await sown(tmp_path)
    spoil(tmp_path / "vault.db.count")
    await used(tmp_path)
    await used(tmp_path)


@pytest.mark.parametrize("left", [None, b""], ids=["deleted", "emptied"])
async def test_a_vault_that_is_gone_is_not_begun_anew(tmp_path: Path, left: bytes | None) -> None:
    """Seeds of the settings would be taken again, long after their successors."""
    await sown(tmp_path)
    (tmp_path / "vault.db").unlink()
    if left is not None:
        (tmp_path / "vault.db").write_bytes(left)
    with pytest.raises(VaultError, match="vault restore FILE"):
        async with opened(tmp_path):
            pass
    (tmp_path / "vault.db.count").unlink()
    async with opened(tmp_path) as vault:
        assert await vault.grants() == []


async def test_what_redis_knows_better_is_of_a_copy_until_it_is_renewed(vault: Vault) -> None:
    await sow(vault, make_seed(), make_seed("other", "rt-o"))
    await refresh(vault, answered("at-1", "rt-1"))
    await refresh(vault, answered("at-o", "rt-p"), name="other")
    vault.seen_newer("acme", NOW + 10)
    for name, is_of_copy in (("acme", True), ("other", False)):
        await at(vault, NOW + 20).request_refresh(name)
        assert (await claim_one(vault, NOW + 20, name)).is_of_copy is is_of_copy
    await at(vault, NOW + 20).leases.release(lambda _: None)
    await refresh(vault, answered("at-2", "rt-2"), NOW + 30)
    await at(vault, NOW + 90).request_refresh("acme")
    assert not (await claim_one(vault, NOW + 90)).is_of_copy
