"""What people ask of a stored grant: tokens, refreshes, removal, mending."""

import pytest

from refresher.domain.grants import GrantState
from refresher.domain.outcomes import ClientRejected, GrantRejected, Misconfigured, Outcome
from refresher.domain.secret import Secret
from refresher.errors import GrantConflict, UnknownGrant
from refresher.vault.vault import Vault
from tests.vault.world import (
    NOT_SENT,
    NOW,
    access_token,
    answered,
    at,
    claim_one,
    finish,
    get,
    login_of,
    make_seed,
    refresh,
    sow,
    static_seed,
)


async def test_a_claim_tells_whether_somebody_asked_for_it(vault: Vault) -> None:
    await sow(vault, make_seed())
    first = await claim_one(vault)
    assert not first.grant.is_asked_for
    await finish(vault, first, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    asked = await claim_one(vault, NOW + 61)
    assert asked.grant.is_asked_for
    after = (await finish(vault, asked, answered("at-2", "rt-2"), NOW + 61)).grant
    assert after is not None
    assert not after.is_asked_for


async def test_a_static_token_is_replaced(vault: Vault) -> None:
    await sow(vault, static_seed(expires_at=NOW + 10))
    await at(vault, NOW + 11).time_passed()
    before = await get(vault, "pat")
    grant = await at(vault, NOW + 20).set_token(
        "pat", Secret("static-1"), expires_at=NOW + 99, token_type="Basic"
    )
    assert before.state is GrantState.REAUTHORIZATION_REQUIRED
    assert (grant.state, grant.reason) == (GrantState.FRESH, None)
    assert (grant.issued_at, grant.expires_at) == (NOW + 20, NOW + 99)
    assert grant.version > before.version
    assert await access_token(vault, "pat") == "static-1"


async def test_a_refreshed_grant_takes_no_static_token(vault: Vault) -> None:
    await sow(vault, make_seed())
    with pytest.raises(GrantConflict, match="refresher login acme"):
        await vault.set_token("acme", Secret("x"), expires_at=None, token_type="Bearer")


async def test_an_unknown_name_is_told_apart(vault: Vault) -> None:
    await sow(vault, make_seed())
    change = login_of(await get(vault), answered("at"))
    await vault.remove("acme")
    with pytest.raises(UnknownGrant):
        await vault.remove("acme")
    with pytest.raises(UnknownGrant):
        await vault.request_refresh("acme")
    with pytest.raises(UnknownGrant):
        await vault.authorize("acme", change)
    with pytest.raises(UnknownGrant):
        await vault.set_token("nobody", Secret("x"), expires_at=None, token_type="Bearer")


async def test_removal_forgets_every_secret(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 5).remove("acme")
    [publication] = await vault.read(["acme"])
    grant = publication.grant
    assert publication.access_token is None
    assert (grant.state, grant.since, grant.due_at) == (GrantState.REMOVED, NOW + 5, None)
    assert grant.refresh_token_fingerprint is grant.predecessor_fingerprint is None
    assert grant.expires_at is None
    assert await vault.find("acme") is None
    assert await vault.grants() == []
    assert await vault.counts() == {"removed": 1}
    assert [row.grant.name for row in await vault.walk(0, 9)] == ["acme"]


async def test_a_request_makes_a_grant_due(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    grant = await at(vault, NOW + 60).request_refresh("acme")
    assert grant is not None
    assert grant.due_at == NOW + 60 == (await get(vault)).due_at


async def test_an_operators_request_is_not_limited(vault: Vault) -> None:
    await sow(vault, make_seed())
    assert await vault.request_refresh("acme") is not None
    assert await vault.request_refresh("acme") is not None


async def test_requests_need_a_refresh_token(vault: Vault) -> None:
    await sow(vault, make_seed("awaiting", None), static_seed())
    assert await vault.request_refresh("awaiting") is None
    assert await vault.request_refresh("pat") is None


async def test_a_dead_refresh_token_is_never_requested(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, GrantRejected(error="invalid_grant", status=400))
    assert await at(vault, NOW + 60).request_refresh("acme") is None
    assert (await get(vault)).due_at is None


async def test_a_login_brings_tokens_and_a_serial(vault: Vault) -> None:
    await sow(vault, make_seed(refresh_token=None))
    change = login_of(await get(vault), answered("at-login", "rt-login", scope="a b"))
    grant = await vault.authorize("acme", change)
    assert grant == await get(vault)
    assert (grant.state, grant.authorization_serial) == (GrantState.FRESH, 1)
    assert await access_token(vault) == "at-login"
    [publication] = await vault.read(["acme"])
    assert publication.scope == "a b"
    await vault.request_refresh("acme")
    assert (await claim_one(vault)).renewal.presents == Secret("rt-login")


async def test_a_login_clears_a_dead_grant(vault: Vault) -> None:
    await sow(vault, make_seed())
    dead = await refresh(vault, GrantRejected(error="invalid_grant", status=400))
    grant = await vault.authorize("acme", login_of(dead, answered("at", "rt-login")))
    assert (grant.state, grant.reason, grant.failures) == (GrantState.FRESH, None, 0)
    assert grant.due_at is not None


async def test_a_login_without_a_refresh_token_says_so(vault: Vault) -> None:
    await sow(vault, make_seed())
    grant = await vault.authorize("acme", login_of(await get(vault), answered("at")))
    assert (grant.state, grant.reason) == (GrantState.FRESH, "no_refresh_token")
    assert grant.refresh_token_fingerprint is None
    assert grant.due_at is None


async def test_a_login_forgets_the_old_ones_end(vault: Vault) -> None:
    """The end of a refresh token that is gone must not be announced."""
    await sow(vault, make_seed())
    before = await refresh(vault, answered("at-1", "rt-1", refresh_token_expires_in=86_400.0))
    assert before.refresh_token_expires_at == NOW + 86_400
    change = login_of(await get(vault), answered("at", "rt-login"))
    assert (await at(vault, NOW).authorize("acme", change)).refresh_token_expires_at is None


@pytest.mark.parametrize(
    "outcome",
    [
        ClientRejected(error="invalid_client", status=401),
        Misconfigured(error="invalid_scope", status=400),
    ],
    ids=["client rejected", "misconfigured"],
)
async def test_a_mended_client_is_tried_at_once(vault: Vault, outcome: Outcome) -> None:
    await sow(vault, make_seed("blocked", "rt-1"), make_seed("waiting", "rt-2"))
    await sow(vault, make_seed("elsewhere", "rt-3", client="erp"))
    blocked = await refresh(vault, outcome, name="blocked")
    waiting = await refresh(vault, NOT_SENT, name="waiting")
    assert blocked.due_at is not None
    assert blocked.due_at >= NOW + 300
    assert await at(vault, NOW + 10).hastening.blocked("crm") == 1
    assert (await get(vault, "blocked")).due_at == NOW + 10
    assert (await get(vault, "waiting")).due_at == waiting.due_at


async def test_a_proof_of_writability_is_repeatable(vault: Vault) -> None:
    await at(vault, NOW).prove_writable()
    await at(vault, NOW + 1).prove_writable()
