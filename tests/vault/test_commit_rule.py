"""The commit rule, through the vault: which outcome counts, and what becomes of the others."""

import pytest

from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import GrantRejected, Outcome, OutcomeUnknown, RefreshTokenOnly
from refresher.domain.outcomes import TokenAnswer as Answer
from refresher.domain.secret import Secret
from refresher.vault.vault import Vault
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    get,
    holds,
    login_of,
    make_seed,
    orphans,
    outcome_of,
    refresh,
    rooms,
    sow,
)

REJECTED: Outcome = GrantRejected(error="invalid_grant", status=400)


async def test_an_answer_is_adopted_whole(vault: Vault) -> None:
    await sow(vault, make_seed())
    committed = await finish(vault, await claim_one(vault), answered("at-1", "rt-1"))
    grant = await get(vault)
    assert committed.verdict is Verdict.APPLY
    assert committed.grant is not None
    assert (grant.state, grant.reason, grant.failures) == (GrantState.FRESH, None, 0)
    assert (grant.issued_at, grant.expires_at) == (NOW, NOW + LIFE)
    assert (grant.attempt_sequence, grant.adopted_sequence, grant.intent) == (1, 1, None)
    assert grant.version == committed.grant.version == int(NOW * 1000)
    assert holds(vault, grant, "rt-1")
    assert await access_token(vault) == "at-1"


async def test_a_retried_commit_has_already_succeeded(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    first = await finish(vault, claim, answered("at-1", "rt-1"))
    second = await finish(vault, claim, answered("at-1", "rt-1"), NOW + 1)
    assert second.verdict is Verdict.ALREADY_APPLIED
    assert first.grant is not None
    assert second.grant is not None
    assert second.grant.version == first.grant.version
    assert await orphans(vault) == []


async def test_tokens_of_another_attempt_with_the_same_sequence_are_kept(vault: Vault) -> None:
    """A failover lost the first claim, so another replica has made the same one."""
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await finish(vault, claim, answered("at-1", "rt-1"))
    other = await finish(vault, claim, answered("at-2", "rt-2"), NOW + 1)
    assert other.verdict is Verdict.SUPERSEDED
    assert holds(vault, await get(vault), "rt-1")
    assert len(await orphans(vault)) == 1


async def test_an_earlier_answer_after_a_later_is_orphaned(vault: Vault) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, later, answered("at-2", "rt-2"))
    late = await finish(vault, earlier, answered("at-1", "rt-1"), NOW + 1)
    grant = await get(vault)
    assert late.verdict is Verdict.SUPERSEDED
    assert holds(vault, grant, "rt-2")
    assert await access_token(vault) == "at-2"
    assert await vault.kept.of_kind("orphan") == [("acme", 1, NOW + 1)]
    [orphan] = await orphans(vault)
    assert (orphan["refresh_token"], orphan["access_token"]) == ("rt-1", "at-1")


async def test_a_later_sent_answer_replaces_an_earlier(vault: Vault) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    first = await finish(vault, earlier, answered("at-1", "rt-1"))
    between = await get(vault)
    assert first.verdict is Verdict.APPLY
    assert holds(vault, between, "rt-1")
    assert between.intent is not None
    assert between.intent.sequence == later.intent.sequence
    second = await finish(vault, later, answered("at-2", "rt-2"), NOW + 1)
    grant = await get(vault)
    assert second.verdict is Verdict.APPLY
    assert holds(vault, grant, "rt-2")
    assert (grant.adopted_sequence, grant.intent) == (2, None)
    assert grant.version > between.version
    assert await orphans(vault) == []


async def test_an_earlier_answer_leaves_the_later_lease(vault: Vault) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    await claim_again(vault)
    await finish(vault, earlier, answered("at-1", "rt-1"))
    await vault.request_refresh("acme")
    assert await vault.claim(rooms(crm=1), 1) == []


async def test_an_unapplied_later_failure_ends_the_lease(vault: Vault) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, earlier, answered("at-1", "rt-1"))
    committed = await finish(vault, later, REJECTED, NOW + 1)
    grant = await get(vault)
    assert committed.verdict is Verdict.SUPERSEDED
    assert (grant.state, grant.failures) == (GrantState.FRESH, 0)
    await at(vault, NOW + 2).request_refresh("acme")
    claim = await claim_one(vault, NOW + 2)
    assert claim.renewal.presents == Secret("rt-1")


async def test_a_first_send_of_a_successor_is_no_replay(vault: Vault) -> None:
    """Its rejection is a revocation, not a lost rotation."""
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, earlier, answered("at-1", "rt-1"))
    await finish(vault, later, UNKNOWN, NOW + 1)
    await at(vault, NOW + 9).request_refresh("acme")
    claim = await claim_one(vault, NOW + 9)
    assert not claim.intent.is_replay
    assert claim.intent.first_sent_at == NOW + 9


@pytest.mark.parametrize(
    "failure", [REJECTED, UNKNOWN], ids=["definite rejection", "unknown outcome"]
)
async def test_a_failure_of_an_outdated_attempt_is_void(vault: Vault, failure: Outcome) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    before = await get(vault)
    committed = await finish(vault, earlier, failure)
    assert committed.verdict is Verdict.SUPERSEDED
    assert await get(vault) == before
    await finish(vault, later, answered("at-2", "rt-2"))
    assert holds(vault, await get(vault), "rt-2")


async def test_a_refusal_gives_up_no_grant_whose_open_exchange_was_answered(vault: Vault) -> None:
    """The server keeps its refresh tokens, so the earlier answer leaves nothing to be lost."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    earlier = await claim_one(vault, NOW + LIFE)
    later = await claim_again(vault, NOW + LIFE)
    await finish(vault, earlier, answered("at-2"), NOW + LIFE)
    refused = await finish(vault, later, REJECTED, NOW + LIFE + 1)
    grant = await get(vault)
    assert refused.verdict is Verdict.SUPERSEDED
    assert (grant.state, grant.intent) == (GrantState.FRESH, None)
    again = await finish(vault, await claim_one(vault, NOW + 2 * LIFE), REJECTED, NOW + 2 * LIFE)
    assert again.grant is not None
    assert again.grant.state is not GrantState.REAUTHORIZATION_REQUIRED


async def test_a_login_in_mid_exchange_voids_the_answer(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    change = login_of(await get(vault), answered("at-login", "rt-login"))
    authorized = await at(vault, NOW + 1).authorize("acme", change)
    late = await finish(vault, claim, answered("at-1", "rt-1"), NOW + 2)
    grant = await get(vault)
    assert late.verdict is Verdict.SUPERSEDED
    assert grant.authorization_serial == authorized.authorization_serial == 2
    assert holds(vault, grant, "rt-login")
    assert await access_token(vault) == "at-login"
    assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-1"]


async def test_a_login_waits_for_the_exchange_it_voids(vault: Vault) -> None:
    """One exchange in flight for a grant, whatever happens to the grant meanwhile (G2)."""
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    change = login_of(await get(vault), answered("at-login", "rt-login"))
    await vault.authorize("acme", change)
    await vault.request_refresh("acme")
    assert await vault.claim(rooms(crm=1), 1) == []
    await finish(vault, claim, REJECTED)
    assert (await claim_one(vault)).renewal.presents == Secret("rt-login")


async def test_a_changed_seed_in_mid_exchange_voids_it(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await sow(vault, make_seed(refresh_token="rt-new"))
    late = await finish(vault, claim, answered("at-1", "rt-1"))
    assert late.verdict is Verdict.SUPERSEDED
    assert holds(vault, await get(vault), "rt-new")


async def test_a_removal_in_mid_exchange_orphans_the_answer(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await vault.remove("acme")
    late = await finish(vault, claim, answered("at-1", "rt-1"))
    assert late.verdict is Verdict.SUPERSEDED
    assert await vault.find("acme") is None
    assert [orphan["access_token"] for orphan in await orphans(vault)] == ["at-1"]


async def test_a_grant_added_anew_takes_no_old_answer(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await vault.remove("acme")
    await sow(vault, make_seed(refresh_token="rt-again"))
    assert await vault.claim(rooms(crm=1), 1) == []
    late = await finish(vault, claim, answered("at-1", "rt-1"))
    assert late.verdict is Verdict.SUPERSEDED
    assert await access_token(vault) is None
    again = await claim_one(vault)
    assert again.renewal.presents == Secret("rt-again")
    await finish(vault, again, answered("at-2", "rt-2"))
    assert await access_token(vault) == "at-2"


@pytest.mark.parametrize("echoed", [None, "rt-0"], ids=["says nothing", "sends it again"])
async def test_a_server_may_keep_the_refresh_token(vault: Vault, echoed: str | None) -> None:
    await sow(vault, make_seed())
    for number in (1, 2):
        now = NOW + number * 40
        await at(vault, now).request_refresh("acme")
        claim = await claim_one(vault, now)
        assert claim.renewal.presents == Secret("rt-0")
        committed = await finish(vault, claim, answered(f"at-{number}", echoed), now)
        assert committed.verdict is Verdict.APPLY
    assert await access_token(vault) == "at-2"
    assert holds(vault, await get(vault), "rt-0")


async def test_a_kept_refresh_token_still_orders_answers(vault: Vault) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, later, answered("at-2"))
    late = await finish(vault, earlier, answered("at-1"))
    assert late.verdict is Verdict.SUPERSEDED
    assert await access_token(vault) == "at-2"


async def test_an_answer_two_rotations_old_is_orphaned(vault: Vault) -> None:
    """Its refresh token is neither the stored one nor the direct predecessor."""
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await sow(vault, make_seed(refresh_token="rt-new"))
    await sow(vault, make_seed(refresh_token="rt-newer"))
    late = await finish(vault, claim, answered("at-1", "rt-1"))
    assert late.verdict is Verdict.SUPERSEDED
    assert holds(vault, await get(vault), "rt-newer")


async def test_a_lone_refresh_token_is_adopted(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    only = RefreshTokenOnly(
        answer=Answer(
            access_token=None, refresh_token=Secret("rt-2"), refresh_token_expires_in=86_400.0
        ),
        status=200,
    )
    before = await get(vault)
    grant = await refresh(vault, only, NOW + 60)
    stored = await get(vault)
    assert grant == stored
    assert holds(vault, stored, "rt-2")
    assert (stored.version, stored.expires_at) == (before.version, before.expires_at)
    assert stored.refresh_token_expires_at == NOW + 60 + 86_400
    assert await access_token(vault) == "at-1"
    assert stored.intent is None
    assert stored.failures == 1


async def test_a_rejection_is_final_and_empties_the_schedule(vault: Vault) -> None:
    await sow(vault, make_seed())
    grant = await refresh(vault, REJECTED)
    assert (grant.state, grant.reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "revoked:invalid_grant",
    )
    assert grant.due_at is None
    assert await at(vault, NOW + 1e9).claim(rooms(crm=1), 1) == []


async def test_an_unreadable_answer_is_kept_sealed(vault: Vault) -> None:
    await sow(vault, make_seed())
    for number in range(7):
        now = NOW + number * 1000
        await at(vault, now).request_refresh("acme")
        body = OutcomeUnknown(reason="unreadable", status=200, body=b"<html>canary-body")
        await refresh(vault, body, now)
    kept = await vault.kept.of_kind("unreadable")
    assert [sequence for _, sequence, _ in kept] == [3, 4, 5, 6, 7]


async def test_an_unreadable_answer_is_kept_though_it_no_longer_counts(vault: Vault) -> None:
    """It may hold the only good refresh token, whatever a later attempt was told."""
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, later, REJECTED)
    late = OutcomeUnknown(reason="unreadable", status=200, body=b"<html>canary-body")
    committed = await finish(vault, earlier, late, NOW + 1)
    assert committed.verdict is Verdict.SUPERSEDED
    assert await vault.kept.of_kind("unreadable") == [("acme", 1, NOW + 1)]


async def test_a_refused_outcome_says_what_is_stored(vault: Vault) -> None:
    await sow(vault, make_seed())
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, later, answered("at-2", "rt-2"))
    late = await vault.commit(earlier, outcome_of(earlier, UNKNOWN, client=CRM))
    assert late.grant == await get(vault)
