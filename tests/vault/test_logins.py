"""Logins under way: kept sealed, bound to their rows, taken once, and gone when they are over."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.domain.logins import AwaitedConsent, Consent, Login, Stage
from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.vault.logins import LOGINS_OPEN
from refresher.vault.schema import logins
from refresher.vault.vault import Vault
from tests.vault.sealed import A_DEVICE, a_login, execute
from tests.vault.test_origin import sown
from tests.vault.world import (
    NOW,
    answered,
    at,
    get,
    login_of,
    make_seed,
    opened,
    sow,
    step_back,
)


def held_in(folder: Path) -> bytes:
    """What the files of the vault in FOLDER hold."""
    return b"".join(file.read_bytes() for file in folder.glob("vault.db*"))


async def ids(vault: Vault) -> list[str]:
    """The logins that have a row."""
    statement = sa.select(logins.c.handle).order_by(logins.c.id)
    return list(await vault._read(lambda tx: tx.connection.scalars(statement).all()))


@pytest.mark.parametrize("login", [a_login(), A_DEVICE], ids=["code", "device"])
async def test_the_next_process_knows_all_of_it(tmp_path: Path, login: Login) -> None:
    async with opened(tmp_path) as vault:
        await vault.logins.add(login)
    held = held_in(tmp_path)
    for secret in ("state-of-login-1", "canary-verifier", "canary-device-code"):
        assert secret.encode() not in held
    async with opened(tmp_path) as vault:
        assert await vault.logins.find(login.id) == login
        assert await vault.logins.find("another") is None


async def test_a_state_finds_its_login_until_somebody_has_taken_it(vault: Vault) -> None:
    for name in ("login-1", "login-2"):
        await vault.logins.add(a_login(name))
    assert await vault.logins.find_by_state(Secret("state-of-login-2")) == a_login("login-2")
    assert await vault.logins.find_by_state(Secret("state-of-login-3")) is None
    assert await vault.logins.take("login-2")
    assert not await vault.logins.take("login-2")
    [sealed] = await vault._read(
        lambda tx: tx.connection.scalars(
            sa.select(logins.c.sealed).where(logins.c.handle == "login-2")
        ).all()
    )
    assert sealed is None, "nothing is kept that could be taken again"
    found = await vault.logins.find_by_state(Secret("state-of-login-2"))
    assert found is not None
    assert (found.stage, found.awaited) == (Stage.TAKEN, None)


@pytest.mark.parametrize(
    "change", [{"client": "other"}, {"grant_name": "other"}, {"kind": "device"}, {"handle": "x"}]
)
async def test_a_row_that_was_changed_does_not_open(vault: Vault, change: dict[str, Any]) -> None:
    """Whoever writes the file gives no consent to another grant."""
    await vault.logins.add(a_login())
    await execute(vault, sa.update(logins).values(change))
    with pytest.raises(VaultKeyError):
        await vault.logins.find(change.get("handle", "login-1"))


async def test_it_is_done_with_the_commit_of_its_tokens(vault: Vault) -> None:
    await sow(vault, make_seed())
    await vault.logins.add(A_DEVICE)
    change = login_of(await get(vault), answered("at", "rt-login"))
    await vault.authorize("acme", change, Consent(A_DEVICE.id))
    found = await vault.logins.find(A_DEVICE.id)
    assert found is not None
    assert (found.stage, found.name) == (Stage.DONE, "acme")
    assert not await vault.logins.take(A_DEVICE.id)


async def test_what_is_over_is_swept(vault: Vault) -> None:
    for login in (a_login(), a_login("login-2", ends_at=NOW + 60), A_DEVICE):
        await vault.logins.add(login)
    await vault.logins.take("login-2")
    await vault.logins.drop_ended()
    assert await ids(vault) == ["login-1", "login-2", "device-1"]
    await at(vault, NOW + 61).logins.drop_ended()
    assert await ids(vault) == ["login-1", "device-1"]
    await at(vault, NOW + 901).logins.add(a_login("login-3", ends_at=NOW + 999))
    assert await ids(vault) == ["login-3"]


async def test_the_oldest_open_one_gives_way(vault: Vault) -> None:
    names = [f"login-{number}" for number in range(LOGINS_OPEN + 1)]
    for name in names[:-1]:
        await vault.logins.add(a_login(name))
    await vault.logins.take("login-0")
    await vault.logins.add(a_login(names[-1]))
    assert await ids(vault) == names, "one that was answered is no longer under way"
    await vault.logins.add(a_login("last"))
    assert await ids(vault) == ["login-0", *names[2:], "last"]


@pytest.mark.of_a_file
async def test_a_clock_set_back_takes_them_along(vault: Vault) -> None:
    await vault.logins.add(A_DEVICE)
    await step_back(vault, -7200)
    found = await vault.logins.find(A_DEVICE.id)
    assert found is not None
    assert (found.begun_at, found.ends_at) == (NOW - 7200, NOW - 7200 + 900)
    assert isinstance(found.awaited, AwaitedConsent)
    assert found.awaited.next_poll_at == NOW - 7200 + 5


async def test_an_older_vault_takes_none_up(tmp_path: Path) -> None:
    """Its codes may have been redeemed since, and to send one again may end what it brought."""
    async with opened(tmp_path) as vault:
        await vault.logins.add(a_login())
    older = await sown(tmp_path)
    async with opened(tmp_path) as vault:
        assert await at(vault, NOW).origin.learn() is None
        assert await ids(vault) == ["login-1"], "a restart loses none"
    older.replace(tmp_path / "vault.db")
    async with opened(tmp_path) as vault:
        assert await at(vault, NOW + 10).origin.learn() is not None
        assert await ids(vault) == []
