"""One row of the vault that is damaged: its grant is set aside, everybody else goes on."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from refresher.domain.grants import Grant, GrantState
from refresher.domain.secret import Secret
from refresher.errors import GrantSetAside, VaultUnavailable
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.world import (
    LIFE,
    NOT_SENT,
    NOW,
    answered,
    at,
    claim_one,
    finish,
    get,
    make_seed,
    opened,
    refresh,
    release,
    rooms,
    sow,
    step_back,
)

pytestmark = pytest.mark.of_a_file

__all__ = ["lines"]

OTHERS = ["a-first", "z-last"]

BEFORE_ANY_UPDATE = (
    "CREATE TRIGGER broken BEFORE UPDATE ON grants WHEN old.name = 'acme' "
    "BEGIN SELECT RAISE({kind}, 'canary'); END"
)

DAMAGE = {
    "labels no JSON": "UPDATE grants SET labels = '{canary' WHERE name = 'acme'",
    "labels no object": "UPDATE grants SET labels = '[1]' WHERE name = 'acme'",
    "labels no text": "UPDATE grants SET labels = x'ff00' WHERE name = 'acme'",
    "scope no JSON": "UPDATE grants SET scope = '' WHERE name = 'acme'",
    "scope of numbers": "UPDATE grants SET scope = '[1]' WHERE name = 'acme'",
    "an unknown state": "UPDATE grants SET state = 'canary' WHERE name = 'acme'",
    "a state no UTF-8": "UPDATE grants SET state = CAST(x'ff' AS TEXT) WHERE name = 'acme'",
    "an unknown kind": "UPDATE grants SET kind = 'canary' WHERE name = 'acme'",
    "an unknown fault": "UPDATE grants SET fault = 'canary' WHERE name = 'acme'",
    "text as expiry": "UPDATE grants SET expires_at = 'canary' WHERE name = 'acme'",
    "bytes as expiry": "UPDATE grants SET expires_at = x'00' WHERE name = 'acme'",
    "an endless expiry": "UPDATE grants SET expires_at = 9e999 WHERE name = 'acme'",
    "text as issue": "UPDATE grants SET issued_at = 'canary' WHERE name = 'acme'",
    "text as failures": "UPDATE grants SET failures = 'canary' WHERE name = 'acme'",
    "a version beyond all": "UPDATE grants SET version = 9223372036854775807 WHERE name = 'acme'",
    "a uid of bytes": "UPDATE grants SET uid = x'00' WHERE name = 'acme'",
    "half an intent": "UPDATE grants SET intent_sequence = 7, intent_presented = NULL "
    "WHERE name = 'acme'",
    "sealed text": "UPDATE grants SET refresh_token_sealed = 'canary' WHERE name = 'acme'",
    "a fingerprint of text": "UPDATE grants SET refresh_token_fingerprint = 'x' "
    "WHERE name = 'acme'",
    "unwritable": BEFORE_ANY_UPDATE.format(kind="ABORT"),
    "unwritable, the statement fails": BEFORE_ANY_UPDATE.format(kind="FAIL"),
}
"""What may happen to one row, and no statement of ours does."""


def execute(folder: Path, statement: str) -> None:
    """Change the vault in FOLDER behind the daemon's back."""
    with closing(sqlite3.connect(folder / "vault.db", isolation_level=None)) as database:
        database.execute(statement)


async def due_again(vault: Vault) -> None:
    """Three grants that have tokens, all due."""
    for name in (OTHERS[0], "acme", OTHERS[1]):
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered(f"at-{name}", f"rt-1-{name}"), name=name)
        await vault.request_refresh(name)


def names(grants: list[Grant]) -> list[str]:
    return [grant.name for grant in grants]


@pytest.fixture(params=DAMAGE)
async def damaged(request: pytest.FixtureRequest, vault: Vault, tmp_path: Path) -> Vault:
    """A vault in which the row of ``acme`` is damaged."""
    await due_again(vault)
    execute(tmp_path, DAMAGE[request.param])
    return vault


async def test_everybody_else_is_claimed(damaged: Vault, lines: Lines) -> None:
    for _ in range(3):
        claims = await damaged.claim(rooms(crm=3), 3)
        assert sorted(names([one.grant for one in claims])) == OTHERS
        for claim in claims:
            await finish(damaged, claim, answered(f"at-{claim.grant.name}"), NOW)
            await damaged.request_refresh(claim.grant.name)
    # One that SQLite cannot even compare is never due, and met when everything is read.
    await damaged.walk(0, 10)
    [told] = [line for line in lines.all() if line["event"] == "grant.set_aside"]
    assert told["grant"] == "acme"
    assert told["level"] == "error"
    assert "refresher login acme" in told["repair"]
    assert "canary" not in lines.output.getvalue()
    assert await damaged.next_due(rooms(crm=1)) == NOW


async def test_everybody_else_is_read(damaged: Vault, lines: Lines) -> None:
    read = set[str]()
    for _ in range(2):
        walked = [row.grant.name for row in await damaged.walk(0, 10)]
        assert [name for name in walked if name != "acme"] == OTHERS
        assert await damaged.walk(1, 1)
        read = {row.grant.name for row in await damaged.read(["acme", *OTHERS])}
        assert read >= set(OTHERS)
        assert {"acme", *OTHERS} == set(names(await damaged.grants()))
        assert sum((await damaged.counts()).values()) == 3
        assert sum(one.count for one in await damaged.overdue(NOW + 1)) >= len(OTHERS)
        await damaged.endings.take_due()
    assert lines.events().count("grant.set_aside") <= 1
    if "acme" not in read:
        assert damaged.may_be_set_aside("acme")
        [shown] = [grant for grant in await damaged.grants() if grant.name == "acme"]
        assert (shown.state, shown.reason) == (GrantState.PAUSED, "damaged")
    assert not damaged.may_be_set_aside(OTHERS[0])


async def test_the_clock_moves_everybody_else(damaged: Vault, lines: Lines) -> None:
    moved = [after.name for _, after in await at(damaged, NOW + LIFE + 1).time_passed()]
    assert sorted(name for name in moved if name != "acme") == OTHERS
    await step_back(damaged, -7200)
    assert (await get(damaged, OTHERS[1])).expires_at == NOW + LIFE - 7200
    await at(damaged, NOW - 20_000).steps.hasten_misdated()
    assert (await get(damaged, OTHERS[1])).due_at is not None


async def test_the_leases_of_everybody_else_end(damaged: Vault, tmp_path: Path) -> None:
    claims = await at(damaged, NOW).claim(rooms(crm=3), 3)
    resumed = await at(damaged, NOW).leases.release(lambda grant: replace(grant, due_at=NOW + 9))
    assert sorted(before.name for before, _ in resumed if before.name != "acme") == OTHERS
    assert len(claims) == 2
    assert (await get(damaged, OTHERS[0])).due_at == NOW + 9


async def test_a_row_mended_is_taken_up_again(vault: Vault, lines: Lines, tmp_path: Path) -> None:
    await due_again(vault)
    execute(tmp_path, DAMAGE["labels no JSON"])
    assert len(await vault.claim(rooms(crm=3), 3)) == 2
    assert await vault.look_at_set_aside() == []
    assert await vault.claim(rooms(crm=3), 3) == []
    assert lines.events() == ["grant.set_aside"]
    execute(tmp_path, "UPDATE grants SET labels = '{}' WHERE name = 'acme'")
    assert await vault.look_at_set_aside() == ["acme"]
    assert lines.events() == ["grant.set_aside", "grant.readmitted"]
    assert names([one.grant for one in await vault.claim(rooms(crm=3), 3)]) == ["acme"]


async def test_an_unwritable_row_is_told_once_however_often_it_is_tried(
    vault: Vault, lines: Lines, tmp_path: Path
) -> None:
    await due_again(vault)
    execute(tmp_path, DAMAGE["unwritable"])
    for _ in range(3):
        await vault.claim(rooms(crm=3), 3)
        assert await vault.look_at_set_aside() == []
    assert lines.events() == ["grant.set_aside"]
    execute(tmp_path, "DROP TRIGGER broken")
    assert await vault.look_at_set_aside() == ["acme"]


async def test_a_truncated_sealed_cell_pauses_its_grant(
    vault: Vault, lines: Lines, tmp_path: Path
) -> None:
    """It is told as a key that does not open it, which a person can put back."""
    for length in (0, 1, 9, 12, 25, 40):
        name = f"cut-{length}"
        await sow(vault, make_seed(name, f"rt-{name}"))
    execute(
        tmp_path,
        "UPDATE grants SET refresh_token_sealed = substr(refresh_token_sealed, 1, "
        "CAST(substr(name, 5) AS INTEGER)) WHERE name LIKE 'cut-%'",
    )
    await sow(vault, make_seed())
    claims = await vault.claim(rooms(crm=9), 9)
    assert names([one.grant for one in claims]) == ["acme"]
    assert lines.events() == ["grant.paused"] * 6
    assert {line["reason"] for line in lines.all()} == {"unreadable"}


async def test_a_pause_is_told_once_it_is_durable(
    vault: Vault, lines: Lines, tmp_path: Path
) -> None:
    await sow(vault, make_seed())
    execute(tmp_path, "UPDATE grants SET refresh_token_sealed = x'00'")
    execute(tmp_path, "CREATE TRIGGER full BEFORE UPDATE ON grants BEGIN SELECT 1; END")
    commit = vault._database._commit

    def refuse(batch: list[object]) -> None:
        raise MemoryError

    vault._database._commit = refuse  # type: ignore[method-assign, assignment]  # no commit returns
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            await vault.claim(rooms(crm=1), 1)
    assert lines.of(Event.GRANT_PAUSED) == []
    vault._database._commit = commit  # type: ignore[method-assign]  # it is mended
    assert await vault.claim(rooms(crm=1), 1) == []
    [told] = lines.of(Event.GRANT_PAUSED)
    assert told["reason"] == "unreadable"
    assert (await get(vault)).state is GrantState.PAUSED


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_row_damaged_in_mid_exchange_keeps_nobody_from_a_commit(
    vault: Vault, lines: Lines, tmp_path: Path, damage: str
) -> None:
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    claims = await vault.claim(rooms(crm=2), 2)
    execute(tmp_path, DAMAGE[damage])
    is_met = False
    for claim in claims:
        try:
            await finish(vault, claim, answered("at-1", f"rt-{claim.grant.name}-1"))
        except GrantSetAside:
            assert claim.grant.name == "acme"
            is_met = True
    assert lines.events() == ["grant.set_aside"] * is_met
    assert (await get(vault, "other")).state is GrantState.FRESH
    # Where the commit did not come across the damage, what came is in its row all the same.
    fingerprint = vault._sealer.fingerprint(Secret("rt-acme-1"))
    with closing(sqlite3.connect(tmp_path / "vault.db")) as database:
        found = database.execute(
            "SELECT count(*) FROM grants WHERE name = 'acme' AND refresh_token_fingerprint = ?",
            (fingerprint,),
        ).fetchone()
    assert found == (int(not is_met),)


async def test_a_vault_with_a_damaged_row_opens(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await due_again(vault)
        await claim_one(vault)
    execute(tmp_path, DAMAGE["labels no JSON"])
    async with opened(tmp_path) as vault:
        assert await release(vault) == []
        assert len(await vault.claim(rooms(crm=3), 3)) == 2


async def test_names_that_cannot_be_read_may_be_anybody(
    vault: Vault, lines: Lines, tmp_path: Path
) -> None:
    """Nobody's key may be taken out of Redis on the word of a vault that cannot be read."""
    await due_again(vault)
    execute(tmp_path, "UPDATE grants SET name = CAST(x'ff' AS TEXT) WHERE name = 'acme'")
    assert len(await vault.walk(0, 10)) == 2
    assert vault.may_be_set_aside("acme")
    assert lines.all()[0]["grant"] == "row 2"


async def test_a_vault_damaged_as_a_whole_is_said_as_that(
    vault: Vault, lines: Lines, tmp_path: Path
) -> None:
    await due_again(vault)
    execute(tmp_path, "ALTER TABLE grants RENAME COLUMN labels TO gone")
    with pytest.raises(VaultUnavailable):
        await vault.grants()
    assert not vault.may_be_set_aside("acme")
    assert lines.of(Event.GRANT_SET_ASIDE) == []


Read = Callable[[Vault], object]


async def test_a_damaged_row_says_so_to_whoever_asks_for_it(vault: Vault, tmp_path: Path) -> None:
    await due_again(vault)
    execute(tmp_path, DAMAGE["labels no JSON"])
    for ask in (
        lambda: vault.find("acme"),
        lambda: vault.request_refresh("acme"),
        lambda: vault.apply_seed(make_seed(), 0.5, origin="settings"),
    ):
        with pytest.raises(GrantSetAside):
            await ask()
    failed = await refresh(vault, NOT_SENT, name=OTHERS[0])
    assert failed.failures == 1
