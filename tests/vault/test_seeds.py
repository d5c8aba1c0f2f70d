"""Seeds: the settings and imports add and correct grants, and never undo a rotation."""

from dataclasses import replace

import pytest

from refresher.domain.grants import GrantKind, GrantState, Seed
from refresher.domain.outcomes import GrantRejected
from refresher.domain.secret import Secret
from refresher.errors import DuplicateRefreshToken, GrantConflict
from refresher.vault.seeds import Seeded, SeedResult
from refresher.vault.vault import Vault
from tests.vault.world import (
    DRAW,
    LIFE,
    NOW,
    access_token,
    answered,
    at,
    claim_one,
    get,
    holds,
    login_of,
    make_seed,
    refresh,
    rooms,
    sow,
    static_seed,
)

REJECTED = GrantRejected(error="invalid_grant", status=400)


async def apply(
    vault: Vault, seed: Seed, now: float = NOW + 100, *, replace_spent: bool = False
) -> Seeded:
    return await at(vault, now).apply_seed(
        seed, DRAW, origin="settings", replace_spent=replace_spent
    )


async def test_a_new_refresh_token_is_due_at_once(vault: Vault) -> None:
    seeded = await apply(vault, make_seed(labels={"team": "a"}, scope=("read",)), NOW)
    grant = seeded.grant
    assert seeded.result is SeedResult.ADDED
    assert grant == await get(vault)
    assert (grant.state, grant.reason, grant.due_at) == (
        GrantState.PENDING,
        "awaiting_refresh",
        NOW,
    )
    assert (grant.origin, dict(grant.labels), grant.scope) == ("settings", {"team": "a"}, ("read",))
    assert grant.authorization_serial == 1
    assert (await claim_one(vault)).renewal.presents == Secret("rt-0")


async def test_a_grant_without_a_token_awaits_its_login(vault: Vault) -> None:
    seeded = await apply(vault, make_seed(refresh_token=None))
    grant = seeded.grant
    assert seeded.result is SeedResult.ADDED
    assert (grant.state, grant.reason, grant.due_at) == (GrantState.PENDING, "awaiting_login", None)


async def test_an_access_token_that_came_along_is_used(vault: Vault) -> None:
    seed = make_seed(access_token=Secret("at-import"), expires_at=NOW + LIFE)
    grant = (await apply(vault, seed, NOW)).grant
    assert (grant.state, grant.issued_at, grant.expires_at) == (GrantState.FRESH, NOW, NOW + LIFE)
    assert grant.due_at == pytest.approx(NOW + 0.75 * LIFE)
    assert grant.version == int(NOW * 1000)
    assert await access_token(vault) == "at-import"


@pytest.mark.parametrize("expires_at", [None, NOW - 1], ids=["no end", "ended"])
async def test_a_useless_access_token_is_left_out(vault: Vault, expires_at: float | None) -> None:
    seed = make_seed(access_token=Secret("at-import"), expires_at=expires_at)
    grant = (await apply(vault, seed, NOW)).grant
    assert (grant.state, grant.due_at, grant.version) == (GrantState.PENDING, NOW, 0)
    assert await access_token(vault) is None


async def test_an_unchanged_seed_changes_nothing(vault: Vault) -> None:
    await sow(vault, make_seed())
    before = await get(vault)
    seeded = await apply(vault, make_seed())
    assert seeded.result is SeedResult.UNCHANGED
    assert await get(vault) == before


async def test_an_unchanged_seed_never_undoes_a_rotation(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    before = await get(vault)
    seeded = await apply(vault, make_seed())
    assert seeded.result is SeedResult.UNCHANGED
    assert await get(vault) == before
    assert holds(vault, before, "rt-1")


async def test_an_unchanged_seed_never_revives_the_dead(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, REJECTED)
    seeded = await apply(vault, make_seed())
    assert seeded.result is SeedResult.UNCHANGED
    assert seeded.grant.state is GrantState.REAUTHORIZATION_REQUIRED


async def test_a_changed_seed_replaces_the_refresh_token(vault: Vault) -> None:
    await sow(vault, make_seed())
    before = await refresh(vault, answered("at-1", "rt-1"))
    seeded = await apply(vault, make_seed(refresh_token="rt-new"))
    grant = seeded.grant
    assert seeded.result is SeedResult.ADOPTED
    assert grant == await get(vault)
    assert holds(vault, grant, "rt-new")
    assert grant.authorization_serial == before.authorization_serial + 1
    assert (grant.state, grant.due_at) == (GrantState.FRESH, NOW + 100)
    assert await access_token(vault) == "at-1"


async def test_a_changed_seed_clears_a_dead_state(vault: Vault) -> None:
    await sow(vault, make_seed())
    dead = await refresh(vault, REJECTED)
    grant = (await apply(vault, make_seed(refresh_token="rt-new"))).grant
    assert dead.state is GrantState.REAUTHORIZATION_REQUIRED
    assert (grant.state, grant.reason) == (GrantState.PENDING, "awaiting_refresh")
    assert (grant.failures, grant.due_at, grant.intent) == (0, NOW + 100, None)


async def test_an_earlier_seed_is_not_taken_again(vault: Vault) -> None:
    """Somebody restored an old settings file; its refresh token has long been spent."""
    await sow(vault, make_seed())
    await sow(vault, make_seed(refresh_token="rt-new"))
    seeded = await apply(vault, make_seed())
    assert seeded.result is SeedResult.UNCHANGED
    assert holds(vault, await get(vault), "rt-new")


async def test_a_refresh_token_of_a_login_is_spent_too(vault: Vault) -> None:
    await sow(vault, make_seed(refresh_token=None))
    change = login_of(await get(vault), answered("at-login", "rt-login"))
    await vault.authorize("acme", change)
    await vault.request_refresh("acme")
    await refresh(vault, answered("at-1", "rt-1"))
    await apply(vault, make_seed(refresh_token="rt-login"))
    assert holds(vault, await get(vault), "rt-1")


async def test_the_spent_seed_of_a_removed_grant_waits(vault: Vault) -> None:
    await sow(vault, make_seed())
    await at(vault, NOW).remove("acme")
    seeded = await apply(vault, make_seed())
    grant = seeded.grant
    assert seeded.result is SeedResult.ADDED
    assert (grant.state, grant.reason, grant.due_at) == (GrantState.PENDING, "seed_spent", None)
    assert await at(vault, NOW + 100).claim(rooms(crm=1), 1) == []


@pytest.mark.parametrize("refresh_token", ["rt-1", "rt-2"], ids=["rotated from", "held"])
async def test_what_a_removed_grant_held_does_not_rise_again(
    vault: Vault, refresh_token: str
) -> None:
    """Whoever took the grant over may have rotated it: presenting it here would end that."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    await refresh(vault, answered("at-2", "rt-2"), NOW + 60)
    await at(vault, NOW + 61).remove("acme")
    for name in ("acme", "another"):
        seeded = await apply(vault, make_seed(name, refresh_token), NOW + 62)
        assert (seeded.grant.reason, seeded.grant.due_at) == ("seed_spent", None)
    forced = await apply(vault, make_seed("acme", refresh_token), NOW + 63, replace_spent=True)
    assert forced.grant.due_at is not None


async def test_a_waiting_spent_seed_stays_as_it_is(vault: Vault) -> None:
    await sow(vault, make_seed())
    await at(vault, NOW).remove("acme")
    before = (await apply(vault, make_seed())).grant
    seeded = await apply(vault, make_seed(), NOW + 200)
    assert seeded.result is SeedResult.UNCHANGED
    assert seeded.grant == before


async def test_a_spent_seed_can_be_forced(vault: Vault) -> None:
    await sow(vault, make_seed())
    await at(vault, NOW).remove("acme")
    seeded = await apply(vault, make_seed(), replace_spent=True)
    assert seeded.result is SeedResult.ADDED
    assert (await claim_one(vault, NOW + 100)).renewal.presents == Secret("rt-0")


async def test_a_forced_seed_replaces_a_rotated_token(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    seeded = await apply(vault, make_seed(), replace_spent=True)
    assert seeded.result is SeedResult.ADOPTED
    assert holds(vault, await get(vault), "rt-0")


async def test_a_grant_added_anew_has_no_token_yet(vault: Vault) -> None:
    """A removed grant's version goes on, but nothing of its token does."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW).remove("acme")
    grant = (await apply(vault, make_seed(refresh_token="rt-again"))).grant
    assert (grant.state, grant.issued_at, grant.expires_at) == (GrantState.PENDING, None, None)
    assert await access_token(vault) is None
    failed = await refresh(vault, REJECTED, NOW + 100)
    assert failed.state is GrantState.REAUTHORIZATION_REQUIRED


@pytest.mark.parametrize("replace_spent", [False, True], ids=["by itself", "forced"])
async def test_a_refresh_token_belongs_to_one_grant(vault: Vault, *, replace_spent: bool) -> None:
    await sow(vault, make_seed("first"))
    with pytest.raises(DuplicateRefreshToken) as refused:
        await apply(vault, make_seed("second"), replace_spent=replace_spent)
    assert refused.value.owner == "first"
    assert str(refused.value) == "grant second: its refresh token already belongs to grant first"
    assert await vault.find("second") is None


async def test_a_rotated_token_belongs_to_one_grant(vault: Vault) -> None:
    await sow(vault, make_seed("first"))
    await refresh(vault, answered("at-1", "rt-1"), name="first")
    with pytest.raises(DuplicateRefreshToken):
        await apply(vault, make_seed("second", "rt-1"))


async def test_a_login_cannot_take_anothers_token(vault: Vault) -> None:
    await sow(vault, make_seed("first"), make_seed("second", None))
    change = login_of(await get(vault, "second"), answered("at", "rt-0"))
    with pytest.raises(DuplicateRefreshToken, match="belongs to grant first"):
        await vault.authorize("second", change)


async def test_clients_may_share_a_refresh_token_text(vault: Vault) -> None:
    await sow(vault, make_seed("first"))
    seeded = await apply(vault, make_seed("second", client="erp"))
    assert seeded.grant.due_at == NOW + 100


async def test_all_seeds_are_added_or_none(vault: Vault) -> None:
    seeds = [make_seed("a", "rt-a"), make_seed("b", "rt-b"), make_seed("c", "rt-a")]
    with pytest.raises(DuplicateRefreshToken, match=r"grant c: .* grant a"):
        await sow(vault, *seeds)
    assert await vault.grants() == []
    await sow(vault, *seeds[:2])
    assert [grant.name for grant in await vault.grants()] == ["a", "b"]


@pytest.mark.parametrize(
    "seed",
    [make_seed(client="erp"), static_seed("acme", client="crm")],
    ids=["another client", "another kind"],
)
async def test_a_contradicting_seed_is_refused(vault: Vault, seed: Seed) -> None:
    await sow(vault, make_seed())
    before = await get(vault)
    with pytest.raises(GrantConflict, match="refresher remove acme"):
        await apply(vault, seed)
    assert await get(vault) == before


async def test_a_removed_name_may_change_its_kind(vault: Vault) -> None:
    await sow(vault, make_seed())
    await vault.remove("acme")
    grant = (await apply(vault, static_seed("acme"))).grant
    assert (grant.kind, grant.client, grant.state) == (GrantKind.STATIC, None, GrantState.FRESH)
    assert await access_token(vault) == "static-0"


async def test_labels_and_scope_are_updated_alone(vault: Vault) -> None:
    await sow(vault, make_seed(labels={"team": "a"}))
    before = await get(vault)
    seeded = await apply(vault, make_seed(labels={"team": "b"}, scope=("read",)))
    grant = await get(vault)
    assert seeded.result is SeedResult.UPDATED
    assert seeded.grant == grant
    assert (dict(grant.labels), grant.scope) == ({"team": "b"}, ("read",))
    assert grant.revision > before.revision
    assert grant.authorization_serial == before.authorization_serial
    assert grant.due_at == before.due_at


async def test_labels_survive_an_exchange_in_flight(vault: Vault) -> None:
    await sow(vault, make_seed(labels={"team": "a"}))
    claim = await claim_one(vault)
    await sow(vault, make_seed(labels={"team": "b"}))
    grant = await vault.commit(claim, login_of(claim.grant, answered("at-1", "rt-1")))
    assert grant.grant is not None
    assert dict(grant.grant.labels) == dict((await get(vault)).labels) == {"team": "b"}


async def test_a_static_token_is_published_as_given(vault: Vault) -> None:
    await sow(vault, static_seed(expires_at=NOW + 50, token_type="Basic"))
    [publication] = await vault.read(["pat"])
    grant = publication.grant
    assert publication.access_token == Secret("static-0")
    assert publication.token_type == "Basic"
    assert (grant.state, grant.expires_at, grant.due_at) == (GrantState.FRESH, NOW + 50, None)


async def test_an_unchanged_static_seed_keeps_a_set_token(vault: Vault) -> None:
    await sow(vault, static_seed())
    await vault.set_token("pat", Secret("static-9"), expires_at=None, token_type="Bearer")
    seeded = await apply(vault, static_seed())
    assert seeded.result is SeedResult.UNCHANGED
    assert await access_token(vault, "pat") == "static-9"


async def test_a_changed_static_seed_replaces_the_token(vault: Vault) -> None:
    await sow(vault, static_seed())
    before = await get(vault, "pat")
    seeded = await apply(vault, static_seed(token="static-1"))
    assert seeded.result is SeedResult.ADOPTED
    assert seeded.grant.version > before.version
    assert await access_token(vault, "pat") == "static-1"


@pytest.mark.parametrize("name", ["acme", "acme-2"], ids=["its name", "another name"])
async def test_a_rejected_refresh_token_is_taken_from_nobody(vault: Vault, name: str) -> None:
    """It was rotated into, so that no seed ever brought it; it is dead all the same (G6)."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    await refresh(vault, replace(REJECTED, needs_person=True), NOW + 60)
    await at(vault, NOW + 61).remove("acme")
    seeded = await apply(vault, make_seed(name, "rt-1"))
    assert (seeded.grant.reason, seeded.grant.due_at) == ("seed_spent", None)
    forced = await apply(vault, make_seed(name, "rt-1"), replace_spent=True)
    assert forced.grant.due_at is not None


async def test_what_a_grant_has_just_rotated_from_is_spent(vault: Vault) -> None:
    """An export of the other system, a rotation old: presenting it would kill the grant."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    await refresh(vault, answered("at-2", "rt-2"), NOW + 60)
    seeded = await apply(vault, make_seed(refresh_token="rt-1"))
    assert seeded.result is SeedResult.UNCHANGED
    assert holds(vault, await get(vault), "rt-2")
