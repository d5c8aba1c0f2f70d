"""Claims: who goes first, how many, and what a dead process leaves behind."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from refresher.domain.grants import Grant, GrantState
from refresher.domain.secret import Secret
from refresher.domain.transition import resume_unresolved
from refresher.errors import VaultUnavailable
from refresher.vault.opening import open_vault
from refresher.vault.schema import grants
from refresher.vault.sealing import Keyring, new_key_line
from refresher.vault.vault import Vault
from tests.vault.world import (
    CRM,
    LIFE,
    NOT_SENT,
    NOW,
    UNKNOWN,
    FakeClock,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    get,
    make_seed,
    refresh,
    release,
    rooms,
    sow,
    static_seed,
)


async def sow_with_life(vault: Vault, lives: dict[str, float]) -> None:
    """Grants whose access tokens live LIVES more seconds, all of them due at NOW + 1000."""
    for name, life in lives.items():
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered("at", expires_in=life), NOW, name)
    due = sa.update(grants).values(due_at=NOW + 1000)
    await vault._database.write(lambda connection: connection.execute(due))


async def test_the_least_time_left_goes_first(vault: Vault) -> None:
    await sow_with_life(vault, {"long": 9000.0, "short": 1200.0, "middle": 4000.0, "gone": 500.0})
    claims = await at(vault, NOW + 1000).claim(rooms(crm=9), 3)
    assert [claim.grant.name for claim in claims] == ["gone", "short", "middle"]


async def test_nothing_is_claimed_before_it_is_due(vault: Vault) -> None:
    await sow_with_life(vault, {"acme": 1200.0})
    assert await at(vault, NOW + 999.9).claim(rooms(crm=9), 9) == []
    assert len(await at(vault, NOW + 1000).claim(rooms(crm=9), 9)) == 1


async def test_each_client_has_room_of_its_own(vault: Vault) -> None:
    for client in ("crm", "erp", "pay"):
        await sow(vault, *(make_seed(f"{client}-{n}", f"rt-{n}", client=client) for n in range(4)))
    claims = await vault.claim(rooms(crm=2, erp=3, pay=0), 99)
    by_client = [claim.grant.client for claim in claims]
    assert {client: by_client.count(client) for client in set(by_client)} == {"crm": 2, "erp": 3}


async def test_a_busy_client_does_not_hide_another(vault: Vault) -> None:
    """The client whose grants are more urgent has no room left; the other one's turn comes."""
    await sow(vault, *(make_seed(f"crm-{n}", f"rt-{n}") for n in range(20)))
    await sow(vault, make_seed("erp-0", "rt-0", client="erp"), now=NOW + 1)
    claims = await at(vault, NOW + 1).claim(rooms(crm=1, erp=1), 99)
    assert sorted(claim.grant.client or "" for claim in claims) == ["crm", "erp"]


async def test_a_client_not_in_the_room_waits(vault: Vault) -> None:
    await sow(vault, make_seed())
    assert await vault.claim(rooms(erp=9), 9) == []
    assert await vault.claim([], 9) == []


async def test_the_total_bounds_all_clients(vault: Vault) -> None:
    for client in ("crm", "erp"):
        await sow(vault, *(make_seed(f"{client}-{n}", f"rt-{n}", client=client) for n in range(4)))
    assert len(await vault.claim(rooms(crm=9, erp=9), 5)) == 5
    assert len(await vault.claim(rooms(crm=9, erp=9), 5)) == 3
    assert await vault.claim(rooms(crm=9), 0) == []


async def test_a_leased_grant_is_claimed_by_nobody(vault: Vault) -> None:
    await sow(vault, make_seed())
    await claim_one(vault)
    assert await at(vault, NOW + 1e6).claim(rooms(crm=9), 9) == []
    assert await at(vault, NOW + 1e6).claim(rooms(crm=9), 9, only="acme") == []
    assert await vault.next_due(rooms(crm=1)) is None
    assert await vault.overdue(NOW + 1e6) == []


async def test_racing_claims_share_no_grant(vault: Vault) -> None:
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(40)))
    names: list[str] = []

    async def claim() -> None:
        names.extend(c.grant.name for c in await vault.claim(rooms(crm=7), 7))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(claim)
    assert len(names) == 40
    assert len(set(names)) == 40


async def test_only_the_named_grant_is_claimed(vault: Vault) -> None:
    await sow(vault, make_seed("a", "rt-a"), make_seed("b", "rt-b"))
    [claim] = await vault.claim(rooms(crm=9), 9, only="b")
    assert claim.grant.name == "b"
    assert claim.renewal.presents == Secret("rt-b")


async def test_static_and_removed_grants_are_never_due(vault: Vault) -> None:
    await sow(vault, make_seed(), static_seed(client="crm"))
    await at(vault, NOW).remove("acme")
    assert await vault.next_due(rooms(crm=1)) is None
    assert await at(vault, NOW + 1e6).claim(rooms(crm=9), 9) == []


async def test_the_next_due_is_the_earliest_of_the_clients(vault: Vault) -> None:
    await sow(vault, make_seed("late", "rt-1"), now=NOW + 50)
    await sow(vault, make_seed("early", "rt-2", client="erp"), now=NOW + 10)
    assert await vault.next_due(rooms(crm=1, erp=1)) == NOW + 10
    assert await vault.next_due(rooms(crm=1)) == NOW + 50
    assert await vault.next_due([]) is None


async def test_a_claim_carries_the_published_token(vault: Vault) -> None:
    await sow(vault, make_seed())
    first = await claim_one(vault)
    assert first.access_token is None
    await finish(vault, first, answered("at-1", "rt-1"))
    await vault.request_refresh("acme")
    second = await claim_one(vault)
    assert second.access_token == Secret("at-1")


async def test_the_intent_is_durable_with_the_claim(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault, NOW + 3)
    assert (await get(vault)).intent == claim.intent
    assert (claim.intent.sequence, claim.intent.attempts) == (1, 1)
    assert claim.intent.first_sent_at == NOW + 3
    assert claim.intent.presented == claim.grant.refresh_token_fingerprint
    assert not claim.intent.is_replay


async def test_replays_count_from_the_first_send(vault: Vault) -> None:
    await sow(vault, make_seed())
    for number in (1, 2, 3):
        await at(vault, NOW + number).request_refresh("acme")
        claim = await claim_one(vault, NOW + number)
        assert (claim.intent.sequence, claim.intent.attempts) == (number, number)
        assert claim.intent.first_sent_at == NOW + 1
        assert claim.intent.is_replay is (number > 1)
        await finish(vault, claim, UNKNOWN, NOW + number)


async def test_a_request_not_sent_ends_its_intent(vault: Vault) -> None:
    await sow(vault, make_seed())
    grant = await refresh(vault, NOT_SENT)
    assert grant.intent is None
    again = await claim_one(vault, NOW + 600)
    assert (again.intent.sequence, again.intent.attempts) == (2, 1)
    assert again.intent.first_sent_at == NOW + 600


async def test_not_sent_ends_no_earlier_attempt(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, UNKNOWN, NOW)
    grant = await refresh(vault, NOT_SENT, NOW + 1)
    assert grant.intent is not None
    assert (grant.intent.attempts, grant.intent.first_sent_at) == (1, NOW)
    claim = await claim_one(vault, NOW + 900)
    assert claim.intent.is_replay


async def test_leases_of_the_dead_are_released(vault: Vault) -> None:
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(3)))
    await at(vault, NOW).claim(rooms(crm=2), 2)
    released = await release(vault, NOW + 1)
    assert len(released) == 2
    assert all(grant.intent is not None for grant in released)
    assert await release(vault, NOW + 1) == []
    claims = await at(vault, NOW + 1).claim(rooms(crm=9), 9)
    assert sorted(claim.intent.attempts for claim in claims) == [1, 2, 2]


@pytest.mark.of_a_file
async def test_what_recovery_decides_is_stored(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    await claim_one(vault, NOW + 60)
    [(leased, _)] = await at(vault, NOW + 70).leases.release(
        lambda grant: resume_unresolved(grant, CRM, NOW + 70, 0.5)
    )
    grant = await get(vault)
    assert grant.due_at == NOW + 70
    assert (grant.failures, grant.state) == (1, GrantState.FRESH)
    assert grant.intent == leased.intent
    assert grant.expires_at == NOW + LIFE
    assert grant.revision > leased.revision


@pytest.mark.of_a_file
async def test_a_recovery_that_dies_leaves_everything_to_the_next(vault: Vault) -> None:
    """Leases ended without what they left open would be replayed against the profile."""
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(2)))
    await at(vault, NOW).claim(rooms(crm=2), 2)
    seen = []

    def dies(grant: Grant) -> Grant:
        seen.append(grant.name)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return replace(grant, due_at=NOW + 999)

    with pytest.raises(VaultUnavailable, match="KeyboardInterrupt"):
        await at(vault, NOW).leases.release(dies)
    assert len(await release(vault, NOW)) == 2
    assert {grant.due_at for grant in await vault.grants()} == {NOW}


@pytest.mark.parametrize("seconds", [0.0, 86_400.0], ids=["at once", "after a day"])
async def test_a_process_that_died_armed_is_a_replay(vault: Vault, seconds: float) -> None:
    await sow(vault, make_seed())
    await claim_one(vault)
    again = await claim_again(vault, NOW + seconds)
    assert again.intent.is_replay
    assert again.intent.first_sent_at == NOW


async def test_a_grant_no_key_opens_is_set_aside(tmp_path: Path) -> None:
    """An old key taken away too early stops its grants, named, and no other."""
    key_file, path = tmp_path / "key", tmp_path / "vault.db"
    old, new = new_key_line(), new_key_line()
    key_file.touch(0o600)
    key_file.write_text(old)
    vault = await open_vault(path, key_file, clock=FakeClock())
    try:
        await sow(vault, make_seed("old", "rt-old"))
    finally:
        vault.close()
    key_file.write_text(new + old)
    vault = await open_vault(path, key_file, clock=FakeClock())
    try:
        await vault.resealing._change_key()
        await sow(vault, make_seed("new", "rt-new"))
        # What is sealed with the old key cannot be opened any more.
        vault._sealer.keyring = Keyring([base64.b64decode(new)])
        claims = await vault.claim(rooms(crm=9), 9)
        assert [claim.grant.name for claim in claims] == ["new"]
        old_grant = await get(vault, "old")
        assert (old_grant.state, old_grant.reason) == (GrantState.PAUSED, "unreadable")
        assert old_grant.due_at is None
        assert old_grant.intent is None
    finally:
        vault.close()


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_claim_whose_commit_was_refused_leaves_no_lease(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """The commit took effect and said that it did not: nobody would ever end that lease."""
    await sow(vault, make_seed())
    for _ in range(attempts - 1):
        await refresh(vault, UNKNOWN)
    before = (await get(vault)).intent
    commit = vault._database._commit

    def commit_and_refuse(batch: list[Any]) -> None:
        commit(batch)
        for waiting in batch:
            waiting.error = VaultUnavailable("the acknowledgement was lost")

    with monkeypatch.context() as patch:
        patch.setattr(vault._database, "_commit", commit_and_refuse)
        with pytest.raises(VaultUnavailable):
            await vault.claim(rooms(crm=1), 1)
    assert await vault.next_due(rooms(crm=1)) is None
    await vault.prove_writable()
    assert await vault.next_due(rooms(crm=1)) == NOW
    left = (await get(vault)).intent
    assert (left and left.attempts) == (before and before.attempts)
    assert (await claim_one(vault)).intent.attempts == attempts
    await vault.prove_writable()
    assert await vault.next_due(rooms(crm=1)) is None
