"""What consumers reject: answered durably, once, and for many grants at a time."""

from pathlib import Path

import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Answer, GrantState, Rejection
from refresher.domain.outcomes import GrantRejected
from refresher.domain.requests import Rejected
from refresher.errors import VaultUnavailable
from refresher.vault.rejections import Taken
from refresher.vault.vault import Vault
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
    opened,
    refresh,
    rooms,
    set_writable,
    sow,
    static_seed,
    step_back,
)

REVOKED = GrantRejected(error="invalid_grant", status=400, needs_person=True)


async def reject(
    vault: Vault, version: int, now: float, name: str = "acme", earlier: int | None = None
) -> Taken:
    word = Rejected(frozenset({version}), "401", earlier)
    return await at(vault, now).take_rejections({name: word})


async def renew(vault: Vault, number: int, now: float = NOW, life: float = LIFE) -> int:
    """Carry out the refresh that is due; the new version."""
    outcome = answered(f"at-{number}", f"rt-{number}", expires_in=life)
    return (await refresh(vault, outcome, now)).version


async def test_a_rejected_token_is_refreshed_at_once(vault: Vault) -> None:
    await sow(vault, make_seed())
    version = await renew(vault, 1)
    before = await get(vault)
    taken = await reject(vault, version, NOW + 60)
    after = await get(vault)
    assert taken.changed == [(before, after)]
    assert (after.due_at, after.requested_at) == (NOW + 60, NOW + 60)
    assert after.revision > before.revision
    assert await renew(vault, 2, NOW + 60) > version
    assert (await get(vault)).rejection is None


async def test_a_request_about_an_older_version_is_ignored(vault: Vault) -> None:
    await sow(vault, make_seed())
    first = await renew(vault, 1)
    await reject(vault, first, NOW + 60)
    second = await renew(vault, 2, NOW + 60)
    before = await get(vault)
    assert await reject(vault, first, NOW + 120) == Taken([], set())
    assert await get(vault) == before
    assert (await reject(vault, second, NOW + 120)).changed


@pytest.mark.parametrize(
    ("life", "interval"), [(LIFE, 30.0), (40.0, 10.0), (2.0, 1.0)], ids=["hour", "short", "tiny"]
)
async def test_consumers_requests_are_limited(vault: Vault, life: float, interval: float) -> None:
    """The second within the interval waits for its end, through a restart and to the exchange."""
    await sow(vault, make_seed())
    first = await renew(vault, 1, NOW, life)
    await reject(vault, first, NOW)
    second = await renew(vault, 2, NOW, life)
    await reject(vault, second, NOW + interval / 2)
    assert (await get(vault)).rejection == Rejection(second, Answer.DEFERRED, NOW + interval)
    assert await at(vault, NOW + interval - 0.01).claim(rooms(crm=1), 1) == []
    assert await renew(vault, 3, NOW + interval, life) > second


async def test_a_deferral_is_durable(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await reject(vault, await renew(vault, 1), NOW)
        version = await renew(vault, 2)
        await reject(vault, version, NOW + 2)
        before = await get(vault)
    async with opened(tmp_path) as vault:
        after = await get(vault)
        assert after == before
        assert (after.due_at, after.request_interval) == (NOW + 30, 60.0)
        assert after.rejection == Rejection(version, Answer.DEFERRED, NOW + 30)
        assert await reject(vault, version, NOW + 3) == Taken([], set())


@pytest.mark.of_a_file
async def test_a_deferral_follows_a_clock_that_is_set_back(vault: Vault) -> None:
    await sow(vault, make_seed())
    await reject(vault, await renew(vault, 1), NOW)
    version = await renew(vault, 2)
    await reject(vault, version, NOW + 2)
    await step_back(vault, -1000.0)
    after = await get(vault)
    assert after.rejection == Rejection(version, Answer.DEFERRED, NOW - 970)
    assert (after.due_at, after.requested_at) == (NOW - 970, NOW - 970)


async def test_a_version_above_the_vaults_counts_with_an_earlier_life_only(vault: Vault) -> None:
    await sow(vault, make_seed())
    version = await renew(vault, 1)
    before = await get(vault)
    assert await reject(vault, version + 5, NOW + 60) == Taken([], {"acme"})
    assert await get(vault) == before
    taken = await reject(vault, version + 5, NOW + 60, earlier=version + 5)
    assert taken.ahead == set()
    assert (await get(vault)).rejection == Rejection(version + 5, Answer.ACCEPTED, NOW + 60)
    await renew(vault, 2, NOW + 60)
    assert (await get(vault)).rejection is None


async def test_many_are_answered_in_one_transaction(vault: Vault) -> None:
    names = [f"g-{number}" for number in range(50)]
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in names))
    versions = {}
    for name in names:
        outcome = answered(f"at-{name}", f"rt-{name}-1")
        versions[name] = (await refresh(vault, outcome, NOW, name)).version
    rejected = {
        name: Rejected(frozenset(range(version - 20, version + 20)))
        for name, version in versions.items()
    }
    rejected["nobody"] = Rejected(frozenset({1}))
    taken = await at(vault, NOW + 60).take_rejections(rejected)
    assert [after.name for _, after in taken.changed] == names
    assert all(after.due_at == NOW + 60 for _, after in taken.changed)
    assert await at(vault, NOW + 61).take_rejections(rejected) == Taken([], set())


async def test_a_pause_is_an_operators_decision(vault: Vault) -> None:
    await sow(vault, make_seed())
    version = await renew(vault, 1)
    await reject(vault, version, NOW + 60)
    claim = await claim_one(vault, NOW + 60)
    pausing = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)
    await finish(vault, claim, UNKNOWN, NOW + 60, pausing)
    await reject(vault, version, NOW + 200)
    after = await get(vault)
    assert (after.state, after.due_at) == (GrantState.PAUSED, None)
    assert after.rejection == Rejection(version, Answer.PAUSED, None)
    assert await at(vault, NOW + 300).request_refresh("acme") is None
    assert (await get(vault)).due_at is None


async def test_an_exchange_in_flight_keeps_the_answer_given_meanwhile(vault: Vault) -> None:
    await sow(vault, make_seed())
    version = await renew(vault, 1)
    await at(vault, NOW + 60).request_refresh("acme")
    claim = await claim_one(vault, NOW + 60)
    await reject(vault, version, NOW + 61)
    told = (await get(vault)).rejection
    assert told == Rejection(version, Answer.EXCHANGE_OPEN, NOW + 60)
    await finish(vault, claim, NOT_SENT, NOW + 62)
    assert (await get(vault)).rejection == told


async def test_a_lost_grant_is_not_asked_for(vault: Vault) -> None:
    await sow(vault, make_seed())
    version = await renew(vault, 1)
    await at(vault, NOW + 60).request_refresh("acme")
    await finish(vault, await claim_one(vault, NOW + 60), REVOKED, NOW + 60)
    await reject(vault, version, NOW + 70)
    after = await get(vault)
    assert (after.state, after.due_at) == (GrantState.REAUTHORIZATION_REQUIRED, None)
    assert after.rejection == Rejection(version, Answer.PERSON_NEEDED, None)


async def test_a_rejected_static_token_needs_another(vault: Vault) -> None:
    await sow(vault, static_seed())
    version = (await get(vault, "pat")).version
    await reject(vault, version, NOW + 60, "pat")
    after = await get(vault, "pat")
    assert (after.state, after.reason) == (GrantState.REAUTHORIZATION_REQUIRED, "token_rejected")
    assert (await vault.read(["pat"]))[0].access_token is not None
    await sow(vault, static_seed(), now=NOW + 61)
    assert (await get(vault, "pat")).state is GrantState.REAUTHORIZATION_REQUIRED


async def test_a_new_authorization_begins_anew(vault: Vault) -> None:
    await sow(vault, make_seed())
    await reject(vault, await renew(vault, 1), NOW)
    await reject(vault, await renew(vault, 2), NOW + 2)
    change = login_of(await get(vault), answered("at", "rt-login"), NOW + 3)
    after = await at(vault, NOW + 3).authorize("acme", change)
    assert (after.rejection, after.request_interval) == (None, None)


@pytest.mark.of_a_file
async def test_a_vault_that_refuses_takes_nothing(vault: Vault) -> None:
    await sow(vault, make_seed())
    version = await renew(vault, 1)
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await reject(vault, version, NOW + 60)
    set_writable(vault, writable=True)
    assert (await reject(vault, version, NOW + 60)).changed


async def test_the_end_of_a_lost_grants_token_is_noticed_once(vault: Vault) -> None:
    await sow(vault, make_seed())
    await renew(vault, 1)
    await at(vault, NOW + 60).request_refresh("acme")
    claim = await claim_one(vault, NOW + 60)
    await finish(vault, claim, REVOKED, NOW + 60)
    before = await get(vault)
    assert before.state is GrantState.REAUTHORIZATION_REQUIRED
    assert await at(vault, NOW + LIFE - 1).time_passed() == []
    [(seen, after)] = await at(vault, NOW + LIFE + 1).time_passed()
    assert seen == before
    assert (after.state, after.reason) == (before.state, before.reason)
    assert after.revision > before.revision
    assert await at(vault, NOW + LIFE + 2).time_passed() == []
