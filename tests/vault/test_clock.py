"""What the clock does to stored grants, and what the watch asks about them."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.grants import GrantState
from refresher.domain.outcomes import GrantRejected
from refresher.domain.secret import Secret
from refresher.vault.clock_steps import SPREAD, TOLERANCE
from refresher.vault.vault import Vault
from tests.vault.test_cost_of_looking import counting
from tests.vault.world import (
    LIFE,
    NOT_SENT,
    NOW,
    UNKNOWN,
    answered,
    at,
    claim_one,
    finish,
    get,
    login_of,
    make_client,
    make_seed,
    refresh,
    sow,
    static_seed,
    step_back,
)

REFUSED = GrantRejected(error="invalid_grant", status=400)


async def test_a_failing_token_near_its_end_is_degraded(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    failed = await refresh(vault, NOT_SENT, NOW + 60)
    assert failed.state is GrantState.FRESH
    assert await at(vault, NOW + LIFE - 301).time_passed() == []
    [(before, after)] = await at(vault, NOW + LIFE - 299).time_passed()
    assert (before.state, after.state) == (GrantState.FRESH, GrantState.DEGRADED)
    assert after == await get(vault)
    assert after.since == NOW + LIFE - 299
    assert after.revision > before.revision
    assert await at(vault, NOW + LIFE - 298).time_passed() == []


async def test_a_token_that_ended_is_expired(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    assert await at(vault, NOW + LIFE - 0.1).time_passed() == []
    [(_, after)] = await at(vault, NOW + LIFE).time_passed()
    assert (after.state, after.reason) == (GrantState.EXPIRED, "overdue")
    assert after.due_at is not None
    assert await at(vault, NOW + LIFE + 1).time_passed() == []


async def test_a_static_token_that_ended_needs_a_person(vault: Vault) -> None:
    await sow(vault, static_seed(expires_at=NOW + 10), static_seed("endless", "static-1"))
    [(_, after)] = await at(vault, NOW + 10).time_passed()
    assert after.name == "pat"
    assert (after.state, after.reason) == (GrantState.REAUTHORIZATION_REQUIRED, "token_ended")


async def test_a_token_without_refresh_ends_for_good(vault: Vault) -> None:
    await sow(vault, make_seed(refresh_token=None))
    await at(vault, NOW).authorize("acme", login_of(await get(vault), answered("at")))
    [(_, after)] = await at(vault, NOW + LIFE).time_passed()
    assert (after.state, after.reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "no_refresh_token",
    )


async def test_the_clock_leaves_leases_and_intents_alone(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    claim = await claim_one(vault, NOW + 60)
    await at(vault, NOW + LIFE + 1).time_passed()
    assert (await get(vault)).intent == claim.intent
    committed = await finish(vault, claim, answered("at-2", "rt-2"), NOW + LIFE + 2)
    assert committed.grant is not None
    assert committed.grant.state is GrantState.FRESH


@pytest.mark.of_a_file
async def test_a_clock_set_back_takes_every_instant_along(vault: Vault) -> None:
    """What is left of a life, a wait and a grace window is what it was."""
    static = static_seed(expires_at=NOW + 9000)
    await sow(vault, make_seed(), make_seed("open", "rt-o"), make_seed("gone", "rt-g"), static)
    before = await refresh(vault, answered("at", refresh_token_expires_in=86_400.0))
    await finish(vault, await claim_one(vault, NOW, "open"), UNKNOWN)
    await at(vault, NOW).remove("gone")
    opened = await get(vault, "open")
    pat = await get(vault, "pat")
    assert sorted(await step_back(vault, -7200)) == ["acme", "open"]
    after = await get(vault)
    for name in ("issued_at", "expires_at", "due_at", "refresh_token_expires_at", "since"):
        assert getattr(after, name) == getattr(before, name) - 7200
    moved = await get(vault, "open")
    assert moved.due_at == opened.due_at - 7200  # type: ignore[operator]  # it is due
    assert moved.intent == replace(opened.intent, first_sent_at=NOW - 7200)  # type: ignore[type-var]  # it is open
    assert await get(vault, "pat") == pat


async def test_an_exchange_across_a_step_keeps_its_first_send(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await step_back(vault, -7200)
    committed = await finish(vault, claim, UNKNOWN, NOW - 7200)
    assert committed.grant is not None
    assert committed.grant.intent is not None
    assert committed.grant.intent.first_sent_at == NOW - 7200


@pytest.mark.parametrize(("count", "apart"), [(3, 0.1), (610, SPREAD / 610)])
async def test_misdated_grants_are_made_due_spread_out(
    vault: Vault, count: int, apart: float
) -> None:
    names = [f"ahead-{number:03}" for number in range(count)]
    ahead: dict[str, Any] = {"access_token": Secret("at"), "expires_at": NOW + 9000}
    seeds = [make_seed(name, f"rt-{name}", **ahead) for name in names]
    await sow(vault, *seeds, static_seed(), now=NOW + 3000)
    await sow(vault, make_seed("right", "rt-r"))
    await refresh(vault, answered("at"), NOW, "right")
    right = await get(vault, "right")
    assert await at(vault, NOW).steps.hasten_misdated() == names
    due = [grant.due_at for grant in await vault.grants(limit=1000) if grant.name in names]
    assert due == pytest.approx([NOW + apart * place for place in range(count)])
    assert await get(vault, "right") == right


@pytest.mark.of_a_file
async def test_misdated_grants_take_one_statement_together(vault: Vault) -> None:
    """A million of them would hold the writer for minutes, one after the other."""
    ahead: dict[str, Any] = {"access_token": Secret("at"), "expires_at": NOW + 9000}
    await sow(vault, *(make_seed(f"g{n}", f"rt-{n}", **ahead) for n in range(50)), now=NOW + 3000)
    with counting(vault) as counted:
        await at(vault, NOW).steps.hasten_misdated()
    assert len([one for one in counted.statements if "SAVEPOINT" in one]) < 10


@pytest.mark.parametrize(
    ("step", "names"),
    [(TOLERANCE, []), (TOLERANCE + 1, ["acme"])],
    ids=["tolerated", "too far"],
)
async def test_small_steps_back_are_tolerated(vault: Vault, step: float, names: list[str]) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at"), NOW)
    assert await at(vault, NOW - step).steps.hasten_misdated() == names


@pytest.mark.of_a_file
async def test_a_clock_set_back_keeps_the_wait_of_a_retry(vault: Vault) -> None:
    await sow(vault, make_seed())
    failed = await refresh(vault, NOT_SENT, NOW)
    assert failed.due_at is not None
    await step_back(vault, -7200)
    assert (await get(vault)).due_at == failed.due_at - 7200


async def test_no_retry_waits_longer_than_any_may(vault: Vault) -> None:
    """The clock stepped back while no daemon ran: nobody knows by how much."""
    await sow(vault, make_seed())
    await refresh(vault, NOT_SENT, NOW + 7200)
    assert await at(vault, NOW + 5000).steps.hasten_misdated() == []
    assert await at(vault, NOW).steps.hasten_misdated() == ["acme"]
    assert (await get(vault)).due_at == NOW


@pytest.mark.of_a_file
async def test_a_clock_set_back_delays_no_revocation(vault: Vault) -> None:
    await sow(vault, make_seed())
    await at(vault, NOW).revocations.end("acme", lambda *_: True)
    [parked] = await vault.revocations.parked()
    await at(vault, NOW).revocations.take(parked, NOW + 60)
    await step_back(vault, -7200)
    [moved] = await vault.revocations.parked()
    assert (moved.due_at, moved.parked_at) == (NOW + 60 - 7200, NOW - 7200)
    assert moved.ends_at == parked.ends_at - 7200


async def test_a_doubted_grant_keeps_its_questions(vault: Vault) -> None:
    """Its token is of the clock that was ahead, and stays so until it is served."""
    await sow(vault, make_seed(), now=NOW + 3000)
    await refresh(vault, answered("at", "rt"), NOW + 3000)
    await at(vault, NOW + 3000).request_refresh("acme")
    refused = await refresh(vault, REFUSED, NOW + 3000)
    assert refused.due_at is not None
    assert await at(vault, NOW + 2000).steps.hasten_misdated() == []
    doubted = await get(vault)
    assert (doubted.refused_at, doubted.due_at) == (NOW + 2000, refused.due_at)
    assert await at(vault, refused.due_at - 3965 - 1).steps.hasten_misdated() == ["acme"]


async def test_a_token_that_came_dead_waits_no_longer(vault: Vault) -> None:
    """An echo of an answer long past: nothing failed, and the next try was to come at once."""
    await sow(vault, make_seed(), now=NOW - 9000)
    client = make_client(rotation="until_used")
    await finish(vault, await claim_one(vault, NOW - 9000), UNKNOWN, NOW - 9000, client)
    echo = await finish(vault, await claim_one(vault), answered("at-1", "rt-1"), NOW, client)
    assert echo.grant is not None
    assert (echo.grant.state, echo.grant.failures) == (GrantState.EXPIRED, 0)
    assert await at(vault, NOW - 7200 + 60).steps.hasten_misdated() == ["acme"]


async def test_nothing_was_sent_in_the_future(vault: Vault) -> None:
    """A replay's answer would be dated there, and a grace window would seem to begin anew."""
    await sow(vault, make_seed())
    await claim_one(vault, NOW + 7200)
    await at(vault, NOW).steps.hasten_misdated()
    intent = (await get(vault)).intent
    assert intent is not None
    assert intent.first_sent_at == NOW


async def test_a_grant_added_on_a_clock_ahead_is_due(vault: Vault) -> None:
    await sow(vault, make_seed(), now=NOW + 7200)
    assert await at(vault, NOW).steps.hasten_misdated() == ["acme"]
    assert (await get(vault)).due_at == NOW


async def test_overdue_means_due_and_left_alone(vault: Vault) -> None:
    await sow(vault, make_seed("later", "rt-1"), now=NOW + 50)
    await sow(vault, make_seed("longest", "rt-2"), make_seed("leased", "rt-3"))
    await claim_one(vault, NOW, "leased")
    assert await vault.overdue(NOW) == []
    [behind] = await vault.overdue(NOW + 1)
    assert (behind.longest, behind.count, behind.due_at) == ("longest", 1, NOW)
    [behind] = await vault.overdue(NOW + 51)
    assert (behind.longest, behind.count, behind.due_at) == ("longest", 2, NOW)


async def test_overdue_grants_are_counted_whole_by_client(vault: Vault) -> None:
    await sow(vault, *(make_seed(f"g{n}", f"rt-{n}") for n in range(1100)))
    await sow(vault, make_seed("other", "rt-x", client="erp"), now=NOW + 1)
    counted = {one.client: (one.longest, one.count) for one in await vault.overdue(NOW + 2)}
    assert counted["erp"] == ("other", 1)
    assert counted["crm"][1] == 1100


async def test_grants_are_listed_and_counted(vault: Vault) -> None:
    await sow(vault, make_seed("b", "rt-1"), make_seed("a", None), static_seed("c"))
    await refresh(vault, answered("at"), name="b")
    assert [grant.name for grant in await vault.grants()] == ["a", "b", "c"]
    assert await vault.counts() == {"fresh": 2, "pending": 1}


async def test_a_walk_sees_every_row_once(vault: Vault) -> None:
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(7)))
    await vault.remove("g-3")
    seen: list[str] = []
    after = 0
    while batch := await vault.walk(after, 3):
        seen.extend(row.grant.name for row in batch)
        after = batch[-1].grant.id
    assert seen == [f"g-{n}" for n in range(7)]


async def test_unknown_names_are_not_read(vault: Vault) -> None:
    await sow(vault, make_seed())
    assert [row.grant.name for row in await vault.read(["nobody", "acme"])] == ["acme"]
