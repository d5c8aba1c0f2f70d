"""What a new process takes up: answers in the rescue file, leases and open exchanges."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from refresher.domain.adoption import Transition
from refresher.domain.clients import Client, UnknownOutcome
from refresher.domain.grants import Claim, Grant, GrantState
from refresher.domain.logins import Consent, Stage
from refresher.domain.outcomes import Outcome, RefreshTokenOnly, ResourceOwner, TokenAnswer
from refresher.domain.secret import Secret
from refresher.engine.records import exchange_record, login_record, read_record
from refresher.engine.recovery import recover
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.engine.world import Call, Endpoint, Lines, assemble
from tests.support.waiting import eventually
from tests.vault.sealed import a_login
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    claim_one,
    get,
    holds,
    login_of,
    make_client,
    make_seed,
    opened,
    orphans,
    outcome_of,
    refresh,
    release,
    rescue,
    rooms,
    set_writable,
    sow,
)

WHOLE = answered(
    "at-1",
    "rt-1",
    token_type="DPoP",
    scope="a b",
    refresh_token_expires_in=86_400.0,
    extras={"instance_url": "https://one.example"},
)


async def leave_rescued(vault: Vault, outcome: Outcome, now: float = NOW) -> Claim:
    """What a process leaves that dies with OUTCOME in hand: a lease, an intent, a record."""
    claim = await claim_one(vault, now)
    record = exchange_record(claim, outcome_of(claim, outcome, now))
    assert record is not None
    await rescue(vault, record())
    return claim


def timeless(grant: Grant) -> Grant:
    """GRANT without what tells only when it was committed."""
    return replace(grant, since=0.0, revision=0, version=0, refresh_token_obtained_at=0.0)


async def resume(vault: Vault, now: float = NOW, client: Client = CRM) -> None:
    await recover(at(vault, now), {"crm": client}, vault.clock)


async def test_a_process_that_died_refused_loses_nothing(tmp_path: Path, lines: Lines) -> None:
    """The whole way: the vault refuses, the process gives up, the next one adopts."""
    async with opened(tmp_path) as vault:

        async def script(_: Call) -> Outcome:
            set_writable(vault, writable=False)
            return answered("at-1", "rt-1")

        parts = assemble(vault, Endpoint(script))
        await sow(vault, make_seed())
        [claim] = await parts.refresh.claim(rooms(crm=1), 1)

        async def give_up() -> None:
            await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
            parts.durability.abandon()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            with pytest.raises(VaultUnavailable):
                await parts.refresh.run(claim, CRM)
    async with opened(tmp_path) as vault:
        await resume(vault, NOW + 5)
        grant = await get(vault)
        assert holds(vault, grant, "rt-1")
        assert await access_token(vault) == "at-1"
        assert (grant.state, grant.intent, grant.failures) == (GrantState.FRESH, None, 0)
        assert await release(vault, NOW + 5) == []
    assert [line["outcome"] for line in lines.of(Event.ANSWER_RESCUED)] == ["rescued", "apply"]
    assert lines.of(Event.EXCHANGE_RESUMED) == []


async def committed_and_rescued(
    tmp_path: Path, outcome: Outcome, *, earlier: Outcome | None = None
) -> tuple[Any, Any]:
    """What is stored after OUTCOME, once committed and once rescued, of one and the same vault."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    await anyio.Path(original).mkdir()
    async with opened(original) as vault:
        await sow(vault, make_seed())
        if earlier is not None:
            await refresh(vault, earlier)
            await at(vault, NOW + 60).request_refresh("acme")
        claim = await leave_rescued(vault, outcome, NOW + 60)
    await anyio.to_thread.run_sync(shutil.copytree, original, copy)
    async with opened(original) as vault:
        await at(vault, NOW + 60).commit(claim, outcome_of(claim, outcome, NOW + 60))
        [direct] = await vault.read(["acme"])
    async with opened(copy) as vault:
        await resume(vault, NOW + 90)
        [rescued] = await vault.read(["acme"])
    return direct, rescued


@pytest.mark.parametrize(
    ("outcome", "earlier"),
    [
        (WHOLE, None),
        (WHOLE, answered("at-0", "rt-00", refresh_token_expires_in=1000.0)),
        (answered("at-1"), UNKNOWN),
    ],
    ids=["the first token", "a later token", "after a failure"],
)
async def test_rescued_or_committed_is_the_same(
    tmp_path: Path, outcome: Outcome, earlier: Outcome | None
) -> None:
    direct, rescued = await committed_and_rescued(tmp_path, outcome, earlier=earlier)
    assert timeless(rescued.grant) == timeless(direct.grant)
    assert replace(rescued, grant=direct.grant) == direct


async def test_a_rescued_lone_refresh_token_is_adopted(tmp_path: Path) -> None:
    answer = TokenAnswer(
        access_token=None, refresh_token=Secret("rt-1"), refresh_token_expires_in=86_400.0
    )
    outcome = RefreshTokenOnly(answer=answer, status=200)
    direct, rescued = await committed_and_rescued(tmp_path, outcome, earlier=answered("at-0"))
    assert rescued.access_token == direct.access_token == Secret("at-0")
    for name in ("refresh_token_fingerprint", "refresh_token_expires_at", "due_at", "intent"):
        assert getattr(rescued.grant, name) == getattr(direct.grant, name)


async def test_an_adopted_record_is_adopted_once(tmp_path: Path, lines: Lines) -> None:
    """The process died between the commit and the blanking of the slot."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        claim = await leave_rescued(vault, WHOLE)
        await vault.commit(claim, outcome_of(claim, WHOLE))
        before = await get(vault)
    async with opened(tmp_path) as vault:
        await resume(vault)
        assert await get(vault) == before
        assert await orphans(vault) == []
        assert vault.rescued.left == {}
    async with opened(tmp_path) as vault:
        assert vault.rescued.left == {}
    assert lines.all() == []


async def test_a_record_of_an_older_authorization_is_orphaned(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await leave_rescued(vault, WHOLE)
        await vault.authorize("acme", login_of(await get(vault), answered("at", "rt-login")))
    async with opened(tmp_path) as vault:
        await resume(vault)
        assert holds(vault, await get(vault), "rt-login")
        assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-1"]
        assert vault.rescued.left == {}
    assert [line["outcome"] for line in lines.of(Event.ANSWER_RESCUED)] == ["superseded"]


async def test_a_record_of_a_removed_grant_is_orphaned(tmp_path: Path) -> None:
    """Nothing is ever thrown away: somebody may want to revoke what came."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await leave_rescued(vault, WHOLE)
        await vault.remove("acme")
    async with opened(tmp_path) as vault:
        await resume(vault)
        assert await vault.find("acme") is None
        assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-1"]
        assert vault.rescued.left == {}


async def leave_rescued_login(vault: Vault) -> None:
    """What a process leaves that dies with the tokens of a login in hand."""
    grant = await get(vault)
    owner = ResourceOwner(name="ann", subject="1")
    change = login_of(grant, answered("at-login", "rt-login", resource_owner=owner))
    await rescue(
        vault, login_record(grant, change, Consent("login-1", "http://127.0.0.1/callback"))()
    )


async def test_a_rescued_login_is_adopted(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await vault.logins.add(a_login())
        assert await vault.logins.take("login-1")
        claim = await claim_one(vault)
        await leave_rescued_login(vault)
    async with opened(tmp_path) as vault:
        await resume(vault, NOW + 5)
        grant = await get(vault)
        assert holds(vault, grant, "rt-login")
        assert await access_token(vault) == "at-login"
        assert grant.redirect_uri == "http://127.0.0.1/callback"
        assert (grant.authorized_by, grant.authorized_subject) == ("ann", "1")
        assert grant.authorization_serial == claim.grant.authorization_serial + 1
        login = await vault.logins.find("login-1")
        assert login is not None
        assert login.stage is Stage.DONE, "whoever waits for it is told"
        assert (grant.state, grant.intent) == (GrantState.FRESH, None)
    assert [line["outcome"] for line in lines.of(Event.ANSWER_RESCUED)] == ["apply"]


@pytest.mark.parametrize("happened", ["a newer login", "a removal"])
async def test_a_rescued_login_undoes_nothing_newer(
    tmp_path: Path, lines: Lines, happened: str
) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await leave_rescued_login(vault)
        if happened == "a removal":
            await vault.remove("acme")
        else:
            newer = login_of(await get(vault), answered("at-newer", "rt-newer"))
            await vault.authorize("acme", newer)
    async with opened(tmp_path) as vault:
        await resume(vault)
        grant = await vault.find("acme")
        assert grant is None or holds(vault, grant, "rt-newer")
        assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-login"]
        assert vault.rescued.left == {}
    assert [line["outcome"] for line in lines.of(Event.ANSWER_RESCUED)] == ["superseded"]


async def test_a_refusing_vault_keeps_the_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await leave_rescued(vault, WHOLE)
    async with opened(tmp_path) as vault:
        set_writable(vault, writable=False)
        with pytest.raises(VaultUnavailable):
            await resume(vault)
    async with opened(tmp_path) as vault:
        assert len(vault.rescued.left) == 1
        await resume(vault)
        assert holds(vault, await get(vault), "rt-1")


async def test_a_record_carries_its_whole_claim(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    change = outcome_of(claim, WHOLE)
    record = exchange_record(claim, change)
    assert record is not None
    read, transition = read_record(record()).on(await get(vault))
    assert read.grant == claim.grant
    assert read.intent == claim.intent
    assert transition.tokens == change.tokens
    assert transition.grant == change.grant


async def test_only_what_came_needs_a_record(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    assert exchange_record(claim, outcome_of(claim, UNKNOWN)) is None
    assert exchange_record(claim, Transition(grant=claim.grant)) is None


STRICT = make_client()
DEFERRING = make_client(on_unknown_outcome=UnknownOutcome.DEFER)
PAUSING = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)


@pytest.mark.parametrize(
    ("client", "due_at", "state"),
    [
        (STRICT, NOW + 70, GrantState.FRESH),
        (DEFERRING, NOW + LIFE - 300, GrantState.FRESH),
        (PAUSING, None, GrantState.PAUSED),
        (make_client(rotation="none"), NOW + 70 + 3.0, GrantState.FRESH),
        (make_client(rotation="until_used"), NOW + 70, GrantState.FRESH),
        (make_client(rotation="grace(60)"), NOW + 70, GrantState.FRESH),
    ],
    ids=["strict", "defer", "pause", "none", "until used", "grace"],
)
async def test_an_open_exchange_follows_its_profile(
    vault: Vault, lines: Lines, client: Client, due_at: float | None, state: GrantState
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW + 60).request_refresh("acme")
    claim = await claim_one(vault, NOW + 60)
    await resume(vault, NOW + 70, client)
    grant = await get(vault)
    assert grant.due_at == due_at
    assert (grant.state, grant.intent) == (state, claim.intent)
    [line] = lines.of(Event.EXCHANGE_RESUMED)
    assert line | {"timestamp": None} == {
        "event": "exchange.resumed",
        "level": "warning",
        "timestamp": None,
        "grant": "acme",
        "client": "crm",
        "sequence": 2,
        "attempts": 1,
        "next_attempt_at": due_at,
        "state": state.value,
    }


async def test_an_unknown_clients_exchange_stays_open(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await recover(vault, {}, vault.clock)
    assert lines.events() == []
    assert (await get(vault)).intent == claim.intent
    assert (await claim_one(vault)).intent.is_replay


async def test_a_vault_left_in_order_needs_nothing(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    before = await get(vault)
    await resume(vault)
    assert await get(vault) == before
    assert lines.events() == []


async def test_a_clock_set_back_between_two_processes_delays_nothing(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await resume(vault, NOW - 86_400)
    assert (await get(vault)).due_at == NOW - 86_400
