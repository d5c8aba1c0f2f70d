"""Lists: read in pages, by index, in turns that are short whatever there is."""

from itertools import product
from pathlib import Path

import pytest

from refresher.domain.grants import Grant, GrantState
from refresher.vault import listing
from refresher.vault.listing import KeptCount, Wanted
from refresher.vault.vault import Vault
from tests.vault.test_cost_of_looking import counting, multiply
from tests.vault.test_damaged_rows import execute
from tests.vault.world import (
    NOT_SENT,
    NOW,
    UNKNOWN,
    answered,
    at,
    claim_one,
    finish,
    make_seed,
    refresh,
    release,
    sow,
    static_seed,
)

TURN = 60_000
"""Instructions of SQLite that one turn may take: a page that is built, and the rows looked at."""


def names(grants: list[Grant]) -> list[str]:
    return [grant.name for grant in grants]


async def walked(vault: Vault, limit: int, wanted: Wanted | None = None) -> list[str]:
    """The names of all pages together."""
    found, after = list[str](), ""
    while page := await vault.listing.grants(after=after, limit=limit, wanted=wanted):
        assert len(page) <= limit
        found += names(page)
        after = page[-1].name
    return found


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns so short that a handful of grants takes several."""
    monkeypatch.setattr(listing, "BUILT", 3)
    monkeypatch.setattr(listing, "SCANNED", 4)


@pytest.fixture
async def mixed(vault: Vault) -> Vault:
    """Twenty-four grants of two clients, every third one expired, every fifth one removed."""
    for number in range(24):
        name = f"g{number:02}"
        await sow(vault, make_seed(name, f"rt-{name}", client="crm" if number % 2 else "box"))
    with vault._database._writer.begin() as connection:
        connection.exec_driver_sql("UPDATE grants SET state = 'fresh'")
        connection.exec_driver_sql("UPDATE grants SET state = 'expired' WHERE id / 3 * 3 = id - 1")
        connection.exec_driver_sql("UPDATE grants SET state = 'removed' WHERE id / 5 * 5 = id - 1")
    return vault


async def test_pages_together_are_what_was_asked_for(mixed: Vault) -> None:
    states = (None, GrantState.FRESH, GrantState.EXPIRED, GrantState.PAUSED)
    for state, client, limit in product(states, (None, "crm", "none"), (1, 3, 5, 500)):
        expected = [
            f"g{number:02}"
            for number in range(24)
            if number % 5
            and state in {None, GrantState.FRESH if number % 3 else GrantState.EXPIRED}
            and client in {None, "crm" if number % 2 else "box"}
        ]
        assert await walked(mixed, limit, Wanted(state, client)) == expected


async def test_a_name_that_comes_or_goes_between_pages_moves_no_other(mixed: Vault) -> None:
    first = names(await mixed.grants(limit=4))
    assert first == ["g01", "g02", "g03", "g04"]
    await mixed.remove("g04")
    await sow(mixed, static_seed("g005"))
    assert names(await mixed.grants(after="g04", limit=3)) == ["g06", "g07", "g08"]


@pytest.mark.of_a_file
async def test_the_states_are_counted(mixed: Vault, tmp_path: Path) -> None:
    assert await mixed.counts() == {"expired": 6, "fresh": 13, "removed": 5}
    execute(tmp_path, "UPDATE grants SET state = 'odd' WHERE name IN ('g01', 'g02')")
    execute(tmp_path, "UPDATE grants SET state = x'ff' WHERE name = 'g03'")
    counts = await mixed.counts()
    assert counts["damaged"] == 3
    assert sum(counts.values()) == 24


@pytest.mark.of_a_file
async def test_damaged_rows_stand_in_their_place(mixed: Vault, tmp_path: Path) -> None:
    """Also where a turn would end at one."""
    for name in ("g02", "g06", "g07", "g11"):
        spoil = f"UPDATE grants SET due_at = 'x' WHERE name = '{name}'"  # noqa: S608  our own names
        execute(tmp_path, spoil)
    every = [f"g{number:02}" for number in range(24) if number % 5]
    for _ in range(2):  # they are set aside by the first look
        assert sorted(await walked(mixed, 3)) == every
    assert await walked(mixed, 3) == every
    paused = await walked(mixed, 3, Wanted(GrantState.PAUSED))
    assert paused == ["g02", "g06", "g07", "g11"]
    details = await mixed.listing.details("g06")
    assert details is not None
    assert details.grant.reason == "damaged"


async def test_what_no_key_opens_is_listed_as_paused(mixed: Vault) -> None:
    mixed._aside._unopened = {2: "g01", 3: "g02"}
    assert await walked(mixed, 2, Wanted(GrantState.PAUSED)) == ["g01", "g02"]
    assert "g01" not in await walked(mixed, 2, Wanted(GrantState.FRESH))
    assert "g01" in await walked(mixed, 2)
    urgent = {grant.name: grant.reason for grant in await mixed.listing.urgent(3)}
    assert urgent["g01"] == "unreadable"


@pytest.mark.of_a_file
async def test_the_urgent_ones_of_each_kind_are_found(vault: Vault) -> None:
    for number, name in enumerate(("calm", "failing", "dead", "soon", "new")):
        await sow(vault, make_seed(name, f"rt-{name}"))
        if name != "new":
            await refresh(vault, answered(f"at-{name}", expires_in=9000.0 - number), name=name)
    await sow(vault, static_seed("pat"))
    await at(vault, NOW).request_refresh("failing")
    await refresh(vault, NOT_SENT, name="failing")
    multiply(vault, "dead", 5, "state = 'reauthorization_required', due_at = NULL")
    found = names(await vault.listing.urgent(2))
    assert len(found) == len(set(found))
    assert {"new", "failing", "soon", "dead-1", "dead-2", "pat"} <= set(found)
    assert not {"calm", "dead-3"} & set(found)


async def test_the_details_count_what_is_kept(vault: Vault) -> None:
    await sow(vault, make_seed())
    late = await claim_one(vault)
    details = await vault.listing.details("acme")
    assert details is not None
    assert details.is_out
    await release(vault)
    await finish(vault, await claim_one(vault, NOW + 9), answered("at-1", "rt-1", scope="a b"))
    await finish(vault, late, answered("at-0", "rt-late"), NOW + 10)
    details = await vault.listing.details("acme")
    assert details is not None
    assert (details.is_out, details.granted_scope) == (False, "a b")
    assert details.kept == (KeptCount("orphan", 1, NOW + 10, NOW + 10),)
    assert await vault.listing.details("nobody") is None
    await at(vault, NOW).remove("acme")
    assert await vault.listing.details("acme") is None


@pytest.mark.of_a_file
async def test_a_turn_costs_the_same_however_many_there_are(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # turns as they are
    await sow(vault, make_seed())
    await refresh(vault, UNKNOWN)
    multiply(vault, "acme", 10_000, "state = 'fresh'")
    multiply(vault, "acme", 10_000, "name = 'late-' || n, uid = 'l' || n, state = 'expired'")
    for state in (None, GrantState.FRESH, GrantState.EXPIRED, GrantState.PAUSED):
        for client in (None, "crm", "none"):
            with counting(vault) as counted:
                found, _ = await vault.listing._turn(Wanted(state, client), "", listing.BUILT)
            assert len(found) <= listing.BUILT
            assert counted.instructions < TURN, (state, client)
    with counting(vault) as counted:
        await vault.listing.urgent(listing.BUILT)
    assert counted.instructions < 9 * TURN
