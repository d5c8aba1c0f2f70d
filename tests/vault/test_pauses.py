"""Pauses in the vault: durable, page by page, and nothing is claimed or sent meanwhile."""

from pathlib import Path

import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import GrantRejected
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.domain.transition import resume_unresolved
from refresher.logs import Event
from refresher.vault import selecting
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.world import (
    CRM,
    DRAW,
    LIFE,
    NOT_SENT,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    claim_one,
    clock_of,
    finish,
    get,
    login_of,
    make_client,
    make_seed,
    opened,
    refresh,
    rooms,
    sow,
)

__all__ = ["lines"]

ACME = Selection(names=["acme"])
HOUR = 3600.0


async def renewed(vault: Vault, name: str = "acme") -> None:
    await sow(vault, make_seed(name, f"rt-{name}"))
    await refresh(vault, answered(f"at-{name}", f"rt-{name}-1"), name=name)


async def pause(vault: Vault, until: float | None = None, now: float = NOW + 60) -> None:
    [(_, after)] = await at(vault, now).pauses.pause(ACME, until=until)
    assert after == await get(vault)


async def test_nothing_is_claimed_of_a_paused_grant(vault: Vault) -> None:
    await renewed(vault)
    await pause(vault)
    assert await vault.next_due(rooms(crm=1)) is None
    assert await at(vault, NOW + 10 * LIFE).claim(rooms(crm=1), 1) == []
    assert await at(vault, NOW + 70).request_refresh("acme") is None
    assert await access_token(vault) == "at-acme", "consumers keep it to its end"


async def test_a_pause_with_an_end_outlives_a_restart_and_ends_by_itself(
    tmp_path: Path, lines: Lines
) -> None:
    async with opened(tmp_path) as vault:
        await renewed(vault)
        await pause(vault, NOW + HOUR)
    async with opened(tmp_path) as vault:
        assert await at(vault, NOW + HOUR - 1).claim(rooms(crm=1), 1) == []
        assert await vault.next_due(rooms(crm=1)) == NOW + HOUR
        assert lines.of(Event.GRANT_RESUMED) == []
        claim = await claim_one(vault, NOW + HOUR)
        [told] = lines.of(Event.GRANT_RESUMED)
        assert (told["grant"], told["reason"]) == ("acme", "its end has come")
        assert claim.grant.state is GrantState.EXPIRED
        stored = await get(vault)
        assert (stored.state, stored.reason) == (GrantState.EXPIRED, "awaiting_refresh")
        after = (await finish(vault, claim, answered("at-2", "rt-2"), NOW + HOUR)).grant
        assert after is not None
        assert (after.state, after.reason) == (GrantState.FRESH, None)


async def test_a_pause_that_no_claim_has_met_is_ended_all_the_same(vault: Vault) -> None:
    await renewed(vault)
    await pause(vault, NOW + 90)
    assert await at(vault, NOW + 89).pauses.end_due() == []
    [(before, after)] = await at(vault, NOW + 90).pauses.end_due()
    assert (before.state, after.state) == (GrantState.PAUSED, GrantState.FRESH)
    assert (after.due_at, after.revision > before.revision) == (NOW + 90, True)
    assert await at(vault, NOW + 90).pauses.end_due() == []


async def test_an_exchange_that_was_out_commits_into_the_pause(vault: Vault) -> None:
    await renewed(vault)
    await at(vault, NOW + 60).request_refresh("acme")
    claim = await claim_one(vault, NOW + 60)
    assert await vault.is_held(claim)
    await pause(vault, now=NOW + 61)
    assert not await vault.is_held(claim), "what has not left yet is not sent"
    done = await finish(vault, claim, answered("at-2", "rt-2"), NOW + 62)
    assert done.verdict is Verdict.APPLY
    after = await get(vault)
    assert done.grant == after
    assert (after.state, after.due_at, after.intent) == (GrantState.PAUSED, None, None)
    assert await access_token(vault) == "at-2"
    [(_, resumed)] = await at(vault, NOW + 90).pauses.resume(ACME)
    assert (resumed.state, resumed.due_at) == (GrantState.FRESH, NOW + 90)
    assert (await claim_one(vault, NOW + 90)).renewal == RefreshToken(Secret("rt-2"))


@pytest.mark.of_a_file
async def test_a_dead_process_leaves_a_paused_exchange_to_wait(vault: Vault) -> None:
    await renewed(vault)
    await at(vault, NOW + 60).request_refresh("acme")
    await claim_one(vault, NOW + 60)
    await pause(vault, now=NOW + 61)
    [(_, after)] = await at(vault, NOW + 70).leases.release(
        lambda grant: resume_unresolved(grant, CRM, NOW + 70, DRAW)
    )
    assert (after.state, after.due_at) == (GrantState.PAUSED, None)
    assert after.intent is not None
    assert await at(vault, NOW + LIFE).claim(rooms(crm=1), 1) == []
    await at(vault, NOW + LIFE).pauses.resume(ACME)
    assert (await claim_one(vault, NOW + LIFE)).intent.is_replay


async def test_resuming_ends_a_pause_of_any_reason(vault: Vault) -> None:
    await renewed(vault)
    await at(vault, NOW + 60).request_refresh("acme")
    pausing = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)
    await finish(vault, await claim_one(vault, NOW + 60), UNKNOWN, NOW + 60, pausing)
    paused = await get(vault)
    assert (paused.state, paused.due_at) == (GrantState.PAUSED, None)
    [(same, unchanged)] = await at(vault, NOW + 70).pauses.pause(ACME, until=NOW + 80)
    assert same == unchanged == paused, "an order with an end must not end what waits for a word"
    [(_, resumed)] = await at(vault, NOW + 90).pauses.resume(ACME)
    assert (resumed.state, resumed.due_at) == (GrantState.FRESH, NOW + 90)
    assert (await claim_one(vault, NOW + 90)).intent.is_replay


async def test_what_is_not_paused_is_not_resumed(vault: Vault) -> None:
    await renewed(vault)
    before = await get(vault)
    assert await at(vault, NOW + 60).pauses.resume(ACME) == [(before, before)]
    assert await get(vault) == before


async def test_nothing_hastens_a_paused_grant(vault: Vault) -> None:
    await renewed(vault)
    await at(vault, NOW + 60).request_refresh("acme")
    await finish(vault, await claim_one(vault, NOW + 60), NOT_SENT, NOW + 60)
    await pause(vault, NOW + HOUR)
    assert await at(vault, NOW + 70).hastening.blocked("crm") == 0
    await at(vault, NOW + 70).hastening.after_outage(["crm"], 0.1)
    assert [
        one async for page in at(vault, NOW + 70).hastening.single_out("crm", 0.1) for one in page
    ] == []
    assert await vault.steps.hasten_misdated() == []
    assert await at(vault, NOW + 70).hastening.ask_lost() == []
    assert (await get(vault)).due_at == NOW + HOUR


@pytest.mark.of_a_file
async def test_a_clock_that_is_set_back_moves_the_end(vault: Vault) -> None:
    await renewed(vault)
    await pause(vault, NOW + HOUR)
    clock_of(vault).step(-600.0)
    await vault.prove_writable()
    assert (await get(vault)).due_at == NOW + HOUR - 600


async def test_login_revocation_and_removal_end_a_pause(vault: Vault) -> None:
    await renewed(vault)
    await pause(vault)
    login = login_of(await get(vault), answered("at-login", "rt-login"), NOW + 70)
    after = await at(vault, NOW + 70).authorize("acme", login)
    assert (after.state, after.reason) == (GrantState.FRESH, None)
    assert after.due_at is not None
    await pause(vault, now=NOW + 80)
    ended = await at(vault, NOW + 90).revocations.end("acme", lambda *_: True)
    assert ended is not None
    assert (ended.after.state, ended.after.reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "revoked_here",
    )
    await at(vault, NOW + 91).remove("acme")
    assert await vault.counts() == {"removed": 1}


async def test_the_end_of_a_paused_refresh_token_is_told(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1", refresh_token_expires_in=2 * 86_400.0))
    await pause(vault)
    [(grant, is_told)] = await at(vault, NOW + 86_400).endings.take_due()
    assert (grant.name, grant.end_announced, is_told) == ("acme", 1, True)


async def test_a_lost_grant_is_not_paused(vault: Vault) -> None:
    await sow(vault, make_seed())
    lost = await refresh(vault, GrantRejected(error="invalid_grant", status=400))
    assert await at(vault, NOW + 5).pauses.pause(ACME, until=None) == [(lost, lost)]


async def test_a_client_is_paused_page_by_page(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "PAGE", 2)
    for name in ("a", "b", "c"):
        await renewed(vault, name)
    await sow(vault, make_seed("elsewhere", "rt-x", client="erp"))
    crm = Selection(client="crm")
    first = await at(vault, NOW + 60).pauses.pause(crm, until=None)
    assert [after.name for _, after in first] == ["a", "b"]
    second = await at(vault, NOW + 60).pauses.pause(crm, until=None, after=first[-1][1].id)
    assert [after.name for _, after in second] == ["c"]
    assert await at(vault, NOW + 60).pauses.pause(crm, until=None, after=second[-1][1].id) == []
    states = {grant.name: grant.state for grant in await vault.grants()}
    assert states == dict.fromkeys("abc", GrantState.PAUSED) | {"elsewhere": GrantState.PENDING}
