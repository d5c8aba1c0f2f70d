"""What the clock does to stored grants, and what the watch asks about them."""

import pytest

from refresher.domain.grants import GrantState
from refresher.vault.exchanges import CLOCK_TOLERANCE
from refresher.vault.vault import Vault
from tests.vault.world import (
    LIFE,
    NOT_SENT,
    NOW,
    answered,
    claim_one,
    finish,
    get,
    login_of,
    make_seed,
    refresh,
    sow,
    static_seed,
)


async def test_a_failing_token_near_its_end_is_degraded(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await vault.request_refresh("acme", NOW + 60)
    failed = await refresh(vault, NOT_SENT, NOW + 60)
    assert failed.state is GrantState.FRESH
    assert await vault.time_passed(NOW + LIFE - 301) == []
    [(before, after)] = await vault.time_passed(NOW + LIFE - 299)
    assert (before.state, after.state) == (GrantState.FRESH, GrantState.DEGRADED)
    assert after == await get(vault)
    assert after.since == NOW + LIFE - 299
    assert after.revision > before.revision
    assert await vault.time_passed(NOW + LIFE - 298) == []


async def test_a_token_that_ended_is_expired(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    assert await vault.time_passed(NOW + LIFE - 0.1) == []
    [(_, after)] = await vault.time_passed(NOW + LIFE)
    assert (after.state, after.reason) == (GrantState.EXPIRED, None)
    assert after.due_at is not None
    assert await vault.time_passed(NOW + LIFE + 1) == []


async def test_a_static_token_that_ended_needs_a_person(vault: Vault) -> None:
    await sow(vault, static_seed(expires_at=NOW + 10), static_seed("endless", "static-1"))
    [(_, after)] = await vault.time_passed(NOW + 10)
    assert after.name == "pat"
    assert (after.state, after.reason) == (GrantState.REAUTHORIZATION_REQUIRED, "token_ended")


async def test_a_token_without_refresh_ends_for_good(vault: Vault) -> None:
    await sow(vault, make_seed(refresh_token=None))
    await vault.authorize("acme", login_of(await get(vault), answered("at")), NOW)
    [(_, after)] = await vault.time_passed(NOW + LIFE)
    assert (after.state, after.reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "no_refresh_token",
    )


async def test_the_clock_leaves_leases_and_intents_alone(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await vault.request_refresh("acme", NOW + 60)
    claim = await claim_one(vault, NOW + 60)
    await vault.time_passed(NOW + LIFE + 1)
    assert (await get(vault)).intent == claim.intent
    committed = await finish(vault, claim, answered("at-2", "rt-2"), NOW + LIFE + 2)
    assert committed.grant is not None
    assert committed.grant.state is GrantState.FRESH


async def test_a_clock_set_back_makes_misdated_grants_due(vault: Vault) -> None:
    await sow(vault, make_seed("ahead", "rt-a"), make_seed("right", "rt-r"), static_seed())
    await refresh(vault, answered("at"), NOW, "right")
    await refresh(vault, answered("at"), NOW + 3000, "ahead")
    right = await get(vault, "right")
    assert await vault.clock_stepped_back(NOW) == ["ahead"]
    assert (await get(vault, "ahead")).due_at == NOW
    assert await get(vault, "right") == right


@pytest.mark.parametrize(
    ("step", "names"),
    [(CLOCK_TOLERANCE, []), (CLOCK_TOLERANCE + 1, ["acme"])],
    ids=["tolerated", "too far"],
)
async def test_small_steps_back_are_tolerated(vault: Vault, step: float, names: list[str]) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at"), NOW)
    assert await vault.clock_stepped_back(NOW - step) == names


async def test_overdue_means_due_and_left_alone(vault: Vault) -> None:
    await sow(vault, make_seed("later", "rt-1"), now=NOW + 50)
    await sow(vault, make_seed("longest", "rt-2"), make_seed("leased", "rt-3"))
    await claim_one(vault, NOW, "leased")
    assert await vault.overdue(NOW) == []
    assert [grant.name for grant in await vault.overdue(NOW + 1)] == ["longest"]
    assert [grant.name for grant in await vault.overdue(NOW + 51)] == ["longest", "later"]


async def test_known_ends_of_refresh_tokens_are_found(vault: Vault) -> None:
    await sow(vault, make_seed("ending", "rt-1"), make_seed("endless", "rt-2"))
    await refresh(vault, answered("at", refresh_token_expires_in=86_400.0), name="ending")
    await refresh(vault, answered("at"), name="endless")
    assert await vault.ending_before(NOW + 86_400) == []
    [grant] = await vault.ending_before(NOW + 86_401)
    assert (grant.name, grant.refresh_token_expires_at) == ("ending", NOW + 86_400)


async def test_grants_are_listed_and_counted(vault: Vault) -> None:
    await sow(vault, make_seed("b", "rt-1"), make_seed("a", None), static_seed("c"))
    await refresh(vault, answered("at"), name="b")
    assert [grant.name for grant in await vault.grants()] == ["a", "b", "c"]
    assert await vault.counts() == {"fresh": 2, "pending": 1}


async def test_a_walk_sees_every_row_once(vault: Vault) -> None:
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(7)))
    await vault.remove("g-3", NOW)
    seen: list[str] = []
    after = 0
    while batch := await vault.walk(after, 3):
        seen.extend(row.grant.name for row in batch)
        after = batch[-1].grant.id
    assert seen == [f"g-{n}" for n in range(7)]


async def test_unknown_names_are_not_read(vault: Vault) -> None:
    await sow(vault, make_seed())
    assert [row.grant.name for row in await vault.read(["nobody", "acme"])] == ["acme"]
