"""A sealed value belongs to its row, and a row to its name, its client and its authorization."""

import random
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.domain.grants import GrantState
from refresher.domain.secret import Secret
from refresher.errors import DuplicateRefreshToken, GrantConflict, UnknownGrant, VaultKeyError
from refresher.vault.schema import grants, kept_answers
from refresher.vault.schema import revocations as parked
from refresher.vault.seeds import SeedResult
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.sealed import UNREADABLE, execute, fill, sealed
from tests.vault.world import (
    DRAW,
    LIFE,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    claim_one,
    finish,
    get,
    login_of,
    make_seed,
    refresh,
    rooms,
    sow,
    static_seed,
)

__all__ = ["lines"]


@pytest.mark.parametrize(
    "change",
    [
        {"client": "other"},
        {"client": None},
        {"name": "acme2"},
        {"authorization_serial": 7},
        {"uid": "0" * 32},
        {"refresh_token_fingerprint": bytes(16)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_row_that_was_changed_sends_nothing(vault: Vault, change: dict[str, Any]) -> None:
    """Whoever writes the file cannot have a refresh token sent to another client's server."""
    await sow(vault, make_seed())
    await execute(vault, sa.update(grants).values(change))
    name = change.get("name", "acme")
    clients = rooms(crm=1, other=1)
    assert await vault.claim(clients, 2) == []
    if change.get("client", "crm") is not None:
        [shown] = await vault.grants()
        assert (shown.state, shown.reason) == (GrantState.PAUSED, "unreadable")
        # Where others share the vault, one of them may have the key that is missing here.
        stored = await get(vault, name)
        assert (stored.state == GrantState.PAUSED) is vault.is_alone


async def test_two_names_cannot_be_exchanged(vault: Vault, lines: Lines) -> None:
    for name in ("d", "e"):
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered(f"at-{name}"), name=name)
    for before, after in (("d", "tmp"), ("e", "d"), ("tmp", "e")):
        await execute(vault, sa.update(grants).where(grants.c.name == before).values(name=after))
    for _ in range(2):
        assert await vault.read(["d", "e"]) == []
        assert await vault.walk(0, 10) == []
    assert vault.may_be_set_aside("d")
    told = [line for line in lines.all() if line["event"] == "grant.set_aside"]
    assert sorted(line["grant"] for line in told) == ["d", "e"]
    assert all("altered" in line["reason"] for line in told)
    assert [grant.reason for grant in await vault.grants()] == ["unreadable", "unreadable"]


async def test_sound_rows_behind_unopened_ones_are_walked(vault: Vault) -> None:
    for name in "abcde":
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered(f"at-{name}"), name=name)
    await execute(vault, sa.update(grants).where(grants.c.name != "e").values(client="other"))
    for _ in range(2):
        assert [row.grant.name for row in await vault.walk(0, 2)] == ["e"]


@pytest.mark.parametrize(
    "change",
    [{"grant_name": "x"}, {"sequence": 99}, {"kind": "orphan"}, {"grant_uid": "x"}],
    ids=str,
)
async def test_a_kept_answer_stays_its_grants(vault: Vault, change: dict[str, Any]) -> None:
    await fill(vault)
    assert len(await vault.kept.unreadable()) == 1
    await execute(
        vault, sa.update(kept_answers).where(kept_answers.c.kind == "unreadable").values(change)
    )
    assert await vault.kept.unreadable() == []
    with pytest.raises(VaultKeyError):
        await sealed(vault)


@pytest.mark.parametrize(
    "change",
    [{"client": "other"}, {"grant_name": "x"}, {"grant_uid": "x"}, {"authorization_serial": 9}],
    ids=str,
)
async def test_parked_tokens_go_to_no_other_server(vault: Vault, change: dict[str, Any]) -> None:
    await fill(vault)
    [one] = await vault.revocations.parked()
    await execute(vault, sa.update(parked).values(change))
    tokens = await at(vault, NOW).revocations.take(one, NOW + 60)
    assert tokens is not None
    assert (tokens.refresh_token, tokens.access_token) == (None, None)
    assert tokens.unopened is not None


class People:
    """Who does what to a vault, at random."""

    def __init__(self, vault: Vault, seed: int) -> None:
        self.vault, self.chance = vault, random.Random(seed)  # noqa: S311  no cryptography
        self.words = 0

    def word(self) -> str:
        """A token that nobody has seen."""
        self.words += 1
        return f"t{self.words}"

    async def act(self, now: float) -> None:
        """Do one thing, be it refused."""
        works = (self.seed, self.seed, self.exchange, self.exchange, self.set_static)
        work = self.chance.choice((*works, self.log_in, self.remove, self.revoke))
        with suppress(UnknownGrant, GrantConflict, DuplicateRefreshToken):
            await work(self.chance.choice(("acme", "zeta")), now)

    async def seed(self, name: str, now: float) -> None:
        token = Secret(self.word()) if self.chance.random() < 0.5 else None
        end = now + LIFE if token else None
        wanted = make_seed(name, self.word(), access_token=token, expires_at=end)
        await at(self.vault, now).apply_seed(wanted, DRAW, origin="runtime", replace_spent=True)

    async def exchange(self, name: str, now: float) -> None:
        await at(self.vault, now).request_refresh(name)
        for claim in await at(self.vault, now).claim(rooms(crm=1), 1, only=name):
            answer = answered(self.word(), self.word() if self.chance.random() < 0.5 else None)
            if self.chance.random() < 0.4:
                meanwhile = (self.log_in, self.remove, self.revoke, self.seed)
                await self.chance.choice(meanwhile)(name, now)
            outcome = self.chance.choice((answer, answer, UNREADABLE, UNKNOWN))
            await finish(self.vault, claim, outcome, now)

    async def log_in(self, name: str, now: float) -> None:
        grant = await self.vault.find(name)
        if grant is not None:
            new = answered(self.word(), self.word() if self.chance.random() < 0.7 else None)
            await at(self.vault, now).authorize(name, login_of(grant, new, now))

    async def remove(self, name: str, now: float) -> None:
        await at(self.vault, now).remove(name)

    async def revoke(self, name: str, now: float) -> None:
        await at(self.vault, now).revocations.end(name, lambda *tokens: any(tokens))

    async def set_static(self, _: str, now: float) -> None:
        await sow(self.vault, static_seed("pat", self.word()), now=now)
        token = Secret(self.word())
        await at(self.vault, now).set_token("pat", token, expires_at=None, token_type="Bearer")


@pytest.mark.parametrize("seed", range(2))
async def test_after_any_operation_every_cell_opens(vault: Vault, seed: int) -> None:
    """Whatever changes a name, a client or an authorization has sealed the row anew."""
    people = People(vault, seed)
    for step in range(60):
        await people.act(NOW + 60.0 * step)
        await sealed(vault)
    assert people.words > 40


async def test_a_token_no_key_opens_hinders_no_repair(vault: Vault) -> None:
    """A new refresh token is adopted beside an access token that nobody can open."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1"))
    await execute(vault, sa.update(grants).values(token_sealed=b"\2" + bytes(60)))
    seeded = await vault.apply_seed(make_seed(refresh_token="rt-new"), DRAW, origin="runtime")
    assert seeded.result is SeedResult.ADOPTED
    assert await access_token(vault) is None
    assert (await claim_one(vault)).renewal.presents == Secret("rt-new")
