"""An authorization that an operator ended: durable at once, and known to what comes late."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Grant, GrantState
from refresher.domain.outcomes import AnswerUnread
from refresher.domain.secret import Secret
from refresher.domain.unread import RawAnswer
from refresher.errors import GrantConflict, UnknownGrant
from refresher.vault.kept import forget, keep_unreadable
from refresher.vault.revocations import LONGEST, LONGEST_WAIT, Ended, Parked
from refresher.vault.schema import grants, revocations
from refresher.vault.sealing import new_key_line
from refresher.vault.seeds import SeedResult
from refresher.vault.vault import Vault
from tests.vault.world import (
    DRAW,
    LIFE,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    claim_one,
    finish,
    get,
    holds,
    login_of,
    make_seed,
    opened,
    orphans,
    refresh,
    rooms,
    sow,
    static_seed,
)

DAY = 86_400.0


async def end(vault: Vault, name: str = "acme", now: float = NOW) -> Ended:
    """End the authorization of NAME, which holds a token."""
    ended = await at(vault, now).revocations.end(
        name, lambda refresh, access: bool(refresh or access)
    )
    assert ended is not None
    return ended


async def log_in(vault: Vault, refresh_token: str) -> Grant:
    """Authorize acme anew."""
    change = login_of(await get(vault), answered("at-login", refresh_token))
    return await vault.authorize("acme", change)


async def taken(vault: Vault, parked: Parked) -> tuple[str | None, str | None]:
    """The refresh token and the access token of PARKED, by one try to revoke it."""
    tokens = await at(vault, NOW).revocations.take(parked, NOW + 60)
    assert tokens is not None
    both = (tokens.refresh_token, tokens.access_token)
    refresh_token, access = (None if token is None else token.reveal() for token in both)
    return refresh_token, access


async def everything(vault: Vault) -> list[tuple[str | None, str | None]]:
    """All that is parked, by one try each."""
    return [await taken(vault, parked) for parked in await vault.revocations.parked()]


async def settle_all(vault: Vault) -> None:
    """Have everything parked revoked."""
    for parked in await vault.revocations.parked():
        await vault.revocations.settle(parked)


async def test_one_transaction_ends_the_authorization(vault: Vault) -> None:
    await sow(vault, make_seed())
    before = await refresh(vault, answered("at-1", "rt-1"))
    ended = await end(vault, now=NOW + 5)
    assert (ended.before, ended.after) == (before, await get(vault))
    assert (ended.was_out, ended.is_unresolved) == (False, False)
    after = ended.after
    assert (after.state, after.reason, after.since) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "revoked_here",
        NOW + 5,
    )
    assert after.authorization_serial == before.authorization_serial + 1
    assert (after.due_at, after.expires_at, after.refresh_token_fingerprint) == (None, None, None)
    assert await access_token(vault) is None
    assert await at(vault, NOW + DAY).claim(rooms(crm=1), 1) == []
    [parked] = await vault.revocations.parked()
    assert (parked.client, parked.name, parked.uid) == ("crm", "acme", after.uid)
    assert (parked.parked_at, parked.due_at, parked.attempts) == (NOW + 5, NOW + 5, 0)
    assert parked.ends_at == NOW + 5 + LONGEST
    assert await taken(vault, parked) == ("rt-1", "at-1")


async def test_nothing_to_revoke_changes_nothing(vault: Vault) -> None:
    await sow(vault, make_seed())
    before = await get(vault)
    assert await vault.revocations.end("acme", lambda *_: False) is None
    assert await get(vault) == before
    assert await vault.revocations.parked() == []
    with pytest.raises(UnknownGrant):
        await end(vault, "nobody")


async def test_a_second_time_there_is_nothing_left(vault: Vault) -> None:
    await sow(vault, make_seed())
    await end(vault)
    revocable = await vault.revocations.end("acme", lambda refresh, _: refresh is not None)
    assert revocable is None
    assert len(await vault.revocations.parked()) == 1


async def test_a_claim_no_longer_stands(vault: Vault) -> None:
    """Between the claim and the request: nothing is sent of what was ended."""
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    ended = await end(vault)
    assert ended.was_out
    assert not ended.is_unresolved
    assert not await vault.is_held(claim)


async def test_an_exchange_without_an_answer_is_told(vault: Vault) -> None:
    await sow(vault, make_seed())
    await finish(vault, await claim_one(vault), UNKNOWN)
    ended = await end(vault)
    assert (ended.was_out, ended.is_unresolved) == (False, True)


async def test_what_comes_late_is_parked(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    ended = await end(vault)
    assert await vault.is_out(ended.after)
    late = await finish(vault, claim, answered("at-1", "rt-1"))
    assert (late.verdict, late.is_parked) == (Verdict.SUPERSEDED, True)
    assert not await vault.is_out(ended.after)
    assert await everything(vault) == [("rt-0", None), ("rt-1", "at-1")]
    assert await orphans(vault) == []
    assert await access_token(vault) is None


async def test_the_mark_outlives_the_revocation(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await end(vault)
    await settle_all(vault)
    assert await vault.revocations.parked() == []
    await finish(vault, claim, answered("at-1"))
    assert await everything(vault) == [(None, "at-1")]


async def test_what_comes_late_twice_is_parked_twice(vault: Vault) -> None:
    """Two attempts of one authorization, each with a good answer: both live at the server."""
    await sow(vault, make_seed())
    first = await claim_one(vault)
    await vault.leases.release(lambda _: None)
    second = await claim_one(vault)
    await end(vault)
    await finish(vault, second, answered("at-2", "rt-2"))
    await finish(vault, first, answered("at-1", "rt-1"))
    assert await everything(vault) == [("rt-0", None), ("rt-2", "at-2"), ("rt-1", "at-1")]


@pytest.mark.parametrize("ended_by", ["login", "import", "removal", "removed and added"])
async def test_no_other_orphan_is_ever_revoked(vault: Vault, ended_by: str) -> None:
    """They may be the only good tokens of whoever took the grant over."""
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    if ended_by == "login":
        await log_in(vault, "rt-login")
    elif ended_by == "import":
        await sow(vault, make_seed(refresh_token="rt-new"))
    else:
        await vault.remove("acme")
        if ended_by == "removed and added":
            await sow(vault, make_seed(refresh_token="rt-new"))
            await end(vault)
            await settle_all(vault)
    late = await finish(vault, claim, answered("at-1", "rt-1"))
    assert not late.is_parked
    assert await vault.revocations.parked() == []
    assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-1"]


@pytest.mark.parametrize("after", ["removal", "login", "import", "removed and added"])
async def test_what_came_after_revives_nothing(vault: Vault, after: str) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await end(vault)
    await settle_all(vault)
    if after == "login":
        await log_in(vault, "rt-new")
    else:
        if after != "import":
            await vault.remove("acme")
        if after != "removal":
            await sow(vault, make_seed(refresh_token="rt-new"))
    await finish(vault, claim, answered("at-1", "rt-1"))
    assert await everything(vault) == [("rt-1", "at-1")]
    assert await orphans(vault) == []
    if after != "removal":
        assert holds(vault, await get(vault), "rt-new")


async def test_the_next_authorization_is_not_the_one_ended(vault: Vault) -> None:
    await sow(vault, make_seed())
    await end(vault)
    await settle_all(vault)
    await log_in(vault, "rt-1")
    await vault.request_refresh("acme")
    claim = await claim_one(vault)
    await log_in(vault, "rt-2")
    late = await finish(vault, claim, answered("at", "rt-3"))
    assert not late.is_parked
    assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-3"]


async def test_a_shared_refresh_token_is_not_revoked(vault: Vault) -> None:
    """A server may hand one account the same refresh token twice."""
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    await refresh(vault, answered("at-1", "rt-same"))
    await refresh(vault, answered("at-2", "rt-same"), name="other")
    before = await vault.grants()
    with pytest.raises(GrantConflict, match="grant other holds the same refresh token"):
        await end(vault)
    assert await vault.grants() == before


async def test_a_token_held_again_is_known(vault: Vault) -> None:
    """A login at a server that does not rotate: what is parked is the new one's token too."""
    await sow(vault, make_seed())
    await end(vault)
    await log_in(vault, "rt-0")
    [parked] = await vault.revocations.parked()
    tokens = await at(vault, NOW).revocations.take(parked, NOW + 60)
    assert tokens is not None
    assert tokens.owner == "acme"


@pytest.mark.parametrize(
    ("known", "lasts"),
    [(None, LONGEST), (DAY, DAY), (90 * DAY, LONGEST), (60.0, 3_600.0)],
    ids=["unknown", "a day", "long", "as good as over"],
)
async def test_it_is_tried_to_the_end_of_the_token(
    vault: Vault, known: float | None, lasts: float
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1", refresh_token_expires_in=known))
    await end(vault)
    [parked] = await vault.revocations.parked()
    assert parked.ends_at == NOW + lasts
    assert await at(vault, NOW + lasts - 1).revocations.drop_ended() == []
    assert await at(vault, NOW + lasts).revocations.drop_ended() == [parked]
    assert await vault.revocations.parked() == []


async def test_an_access_token_alone_ends_with_its_life(vault: Vault) -> None:
    await sow(vault, static_seed())
    await at(vault, NOW).set_token("pat", Secret("at"), expires_at=NOW + DAY, token_type="Bearer")
    await end(vault, "pat")
    [parked] = await vault.revocations.parked()
    assert parked.ends_at == NOW + DAY
    assert await taken(vault, parked) == (None, "at")


async def marks(vault: Vault) -> int:
    statement = sa.select(sa.func.count()).select_from(revocations)
    return await vault._database.read(lambda c: c.scalar(statement)) or 0


async def test_a_mark_stays_for_what_may_still_come(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1", refresh_token_expires_in=DAY))
    ended = await end(vault)
    await at(vault, NOW + LONGEST - 1).revocations.drop_ended()
    assert await marks(vault) == 1
    intent = (await claim_of_a_dead_process(vault)).intent
    unread = RawAnswer(status=200, body=b"{", sent_at=NOW)
    await vault._write(lambda tx: keep_unreadable(tx, ended.before, intent, unread))
    await at(vault, NOW + LONGEST + 1).revocations.drop_ended()
    assert await marks(vault) == 1
    [kept] = await vault.kept.unreadable()
    await vault._write(lambda tx: forget(tx, kept.id))
    await at(vault, NOW + LONGEST + 1).revocations.drop_ended()
    assert await marks(vault) == 0


async def claim_of_a_dead_process(vault: Vault) -> Any:
    await sow(vault, make_seed("other", "rt-other"))
    return await claim_one(vault, name="other")


async def test_an_unread_answer_of_an_ended_authorization_is_kept(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await end(vault)
    unread = AnswerUnread(status=200, body=b"???", bug=ValueError())
    assert not (await finish(vault, claim, unread)).is_parked
    [kept] = await vault.kept.unreadable()
    assert (kept.uid, kept.authorization_serial) == (
        claim.grant.uid,
        claim.grant.authorization_serial,
    )


async def test_a_try_is_counted_before_it_is_made(vault: Vault) -> None:
    await sow(vault, make_seed())
    await end(vault)
    parked = await at(vault, NOW).revocations.due({"crm"})
    assert parked is not None
    await at(vault, NOW).revocations.take(parked, NOW + 60)
    assert await at(vault, NOW + 59).revocations.due({"crm"}) is None
    again = await at(vault, NOW + 60).revocations.due({"crm"})
    assert again is not None
    assert again.attempts == 1
    assert await at(vault, NOW + 60).revocations.due({"erp"}) is None
    await at(vault, NOW).revocations.settle(again)
    assert await at(vault, NOW).revocations.take(again, NOW) is None


async def test_a_clock_set_back_does_not_delay_it_for_ever(vault: Vault) -> None:
    await sow(vault, make_seed())
    await end(vault, now=NOW + 365 * DAY)
    assert await at(vault, NOW).revocations.due({"crm"}) is not None
    [parked] = await vault.revocations.parked()
    await at(vault, NOW).revocations.take(parked, NOW + 1.25 * LONGEST_WAIT)
    assert await at(vault, NOW).revocations.due({"crm"}) is None


async def test_what_no_key_opens_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await end(vault)
        [parked] = await vault.revocations.parked()
        await vault._database.write(
            lambda c: c.execute(sa.update(revocations).values(sealed=new_key_line().encode()))
        )
        tokens = await at(vault, NOW).revocations.take(parked, NOW + 60)
        assert tokens is not None
        assert tokens.unopened is not None
        assert "sealed with another key" in tokens.unopened
        assert await at(vault, NOW).revocations.due({"crm"}) is None


async def test_nobody_brings_a_revoked_token_back_by_itself(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await vault.request_refresh("acme")
    claim = await claim_one(vault)
    await end(vault)
    await finish(vault, claim, answered("at-2", "rt-2"))
    for token in ("rt-0", "rt-1", "rt-2"):
        seed = make_seed(refresh_token=token)
        seeded = await vault.apply_seed(seed, DRAW, origin="settings")
        assert seeded.result is SeedResult.UNCHANGED, token
    assert (await get(vault)).reason == "revoked_here"


async def test_both_tokens_of_a_probation_are_revoked(vault: Vault) -> None:
    """Which of both the server takes is not known while the newer one was never served."""
    await sow(vault, make_seed())
    grant = await refresh(vault, answered("at-1", "rt-1"))
    sealed = vault._sealer.refresh_token_values(
        grant, Secret("rt-0"), presented=None, obtained_at=NOW
    )["refresh_token_sealed"]
    await vault._database.write(
        lambda c: c.execute(sa.update(grants).values(predecessor_sealed=sealed))
    )
    assert (await get(vault)).on_probation
    ended = await end(vault)
    assert not ended.after.on_probation
    assert await everything(vault) == [("rt-1", "at-1"), ("rt-0", None)]


LEARNED = {
    "failures": 3,
    "failing_since": NOW,
    "fault": "grant",
    "served_at": NOW - 5,
    "refused_at": NOW,
    "refusals": 2,
    "refresh_window": 60.0,
    "early_refusals": 1,
    "predecessor_sealed": b"sealed",
}
"""What an authorization has taught."""


@pytest.mark.parametrize("by", ["login", "login without a refresh token", "import", "removal"])
async def test_a_new_authorization_has_learned_nothing(vault: Vault, by: str) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await vault._database.write(lambda c: c.execute(sa.update(grants).values(LEARNED)))
    if by == "import":
        await sow(vault, make_seed(refresh_token="rt-new"), now=NOW + 9)
    elif by == "removal":
        await at(vault, NOW + 9).remove("acme")
    else:
        answer = answered("at-2", "rt-2" if by == "login" else None)
        await at(vault, NOW + 9).authorize("acme", login_of(await get(vault), answer, NOW + 9))
    [publication] = await vault.read(["acme"])
    grant = publication.grant
    assert (grant.failures, grant.failing_since, grant.fault) == (0, None, None)
    assert (grant.refused_at, grant.refusals) == (None, 0)
    assert (grant.refresh_window, grant.early_refusals) == (None, 0)
    assert not grant.on_probation
    assert grant.served_at == (NOW + 9 if by.startswith("login") else None)
    assert grant.lifetime == (None if by == "removal" else LIFE)
