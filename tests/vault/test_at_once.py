"""What is done for many grants at once: the same as one by one, whatever one of them is."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest

from refresher.domain import claiming
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Claim, GrantState
from refresher.errors import VaultUnavailable
from refresher.vault import exchanges
from refresher.vault.vault import Vault
from tests.vault.world import (
    LIFE,
    NOT_SENT,
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
    orphans,
    refresh,
    release,
    rooms,
    sow,
)


def refuse_to_read(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        pytest.fail("the vault was read")

    monkeypatch.setattr(vault._database, "read", refuse)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be committed one by one."""

    def refuse(*_: Any) -> NoReturn:
        pytest.fail("a commit took the careful way")

    monkeypatch.setattr(exchanges, "commit", refuse)


async def three(vault: Vault) -> list[Claim]:
    """Three claimed grants: a, b and c."""
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in "abc"))
    claims = await at(vault, NOW).claim(rooms(crm=3), 3)
    return sorted(claims, key=lambda claim: claim.grant.name)


async def finish_together(vault: Vault, claims: list[Claim]) -> list[Verdict]:
    """Commit an answer to each of CLAIMS, all handed over at the same time."""
    verdicts: dict[str, Verdict] = {}

    async def commit(claim: Claim) -> None:
        name = claim.grant.name
        done = await finish(vault, claim, answered(f"at-{name}", f"rt-{name}-1"))
        verdicts[name] = done.verdict

    async with anyio.create_task_group() as tasks:
        for claim in claims:
            tasks.start_soon(commit, claim)
    return [verdicts[name] for name in sorted(verdicts)]


@pytest.mark.parametrize("opened", ["never", "by the same token", "by another token", "by a login"])
async def test_a_claim_writes_the_intent_that_the_rule_says(vault: Vault, opened: str) -> None:
    await sow(vault, make_seed(), now=NOW - 100)
    if opened != "never":
        claim = await claim_one(vault, NOW - 50)
        if opened == "by a login":
            change = login_of(await get(vault), answered("at-2", "rt-2"), NOW - 40)
            await at(vault, NOW - 40).authorize("acme", change)
        elif opened == "by another token":
            await finish(vault, claim, answered("at-1", "rt-1"), NOW - 40)
            await at(vault, NOW - 30).request_refresh("acme")
            await claim_one(vault, NOW - 30)
        await release(vault, NOW - 20)
        await at(vault, NOW - 10).request_refresh("acme")
    before = await get(vault)
    claim = await claim_one(vault)
    assert claim.grant == claiming.armed(before, NOW) == await get(vault)


async def test_answers_are_committed_together(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = await three(vault)
    forbid(monkeypatch)
    assert await finish_together(vault, claims) == [Verdict.APPLY] * 3
    for name in "abc":
        grant = await get(vault, name)
        assert holds(vault, grant, f"rt-{name}-1")
        assert (grant.state, grant.intent, grant.adopted_sequence) == (GrantState.FRESH, None, 1)
        assert await access_token(vault, name) == f"at-{name}"
    assert await release(vault) == []


@pytest.mark.of_a_file
@pytest.mark.parametrize("successor", ["rt-2", None])
async def test_what_a_commit_gives_back_is_what_it_wrote(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, successor: str | None
) -> None:
    await sow(vault, make_seed(labels={"team": "a"}, scope=("x", "y")))
    await refresh(vault, answered("at-0", "rt-1", scope="x y"))
    await at(vault, NOW + 60).request_refresh("acme")
    claim = await claim_one(vault, NOW + 60)
    forbid(monkeypatch)
    answer = answered("at-2", successor, extras={"instance_url": "https://i"})
    done = await finish(vault, claim, answer, NOW + 61)
    assert done.grant == await get(vault)
    assert [done.publication] == await vault.read(["acme"])


@pytest.mark.parametrize("what", ["login", "removal", "late answer", "rejection"])
async def test_one_that_changed_meanwhile_spoils_no_other(vault: Vault, what: str) -> None:
    a, b, c = await three(vault)
    expected = Verdict.SUPERSEDED
    match what:
        case "login":
            await vault.authorize("b", login_of(await get(vault, "b"), answered("at", "rt-new")))
        case "removal":
            await vault.remove("b")
        case "late answer":
            await release(vault)
            again = await claim_one(vault, name="b")
            await finish(vault, b, answered("at-early", "rt-early"))
            b, expected = again, Verdict.APPLY
        case _:
            await vault._database.write(
                lambda c: c.exec_driver_sql("UPDATE grants SET requested_at = 5 WHERE name = 'b'")
            )
            expected = Verdict.APPLY
    assert await finish_together(vault, [a, b, c]) == [Verdict.APPLY, expected, Verdict.APPLY]
    assert holds(vault, await get(vault, "a"), "rt-a-1")
    assert holds(vault, await get(vault, "c"), "rt-c-1")
    kept = [answer["refresh_token"] for answer in await orphans(vault)]
    assert kept == (["rt-b-1"] if expected is Verdict.SUPERSEDED else [])


async def test_a_commit_that_is_repeated_is_known(vault: Vault) -> None:
    claims = await three(vault)
    await finish_together(vault, claims)
    assert await finish_together(vault, claims) == [Verdict.ALREADY_APPLIED] * 3
    assert holds(vault, await get(vault, "a"), "rt-a-1")


@pytest.mark.of_a_file
async def test_a_row_no_statement_of_ours_wrote_is_claimed_by_nobody(
    vault: Vault, tmp_path: Path
) -> None:
    """Half an intent may hide an exchange that is open."""
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in "ab"))
    with closing(sqlite3.connect(tmp_path / "vault.db", isolation_level=None)) as other:
        other.execute("UPDATE grants SET intent_sequence = 7 WHERE name = 'a'")
    assert [claim.grant.name for claim in await vault.claim(rooms(crm=2), 2)] == ["b"]
    assert vault.may_be_set_aside("a")


@pytest.mark.of_a_file
async def test_the_last_look_reads_nothing_while_nobody_disturbs(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = await three(vault)
    await finish(vault, claims[0], answered("at-a", "rt-a-1"))
    await finish(vault, claims[1], UNKNOWN)
    await vault.prove_writable()
    await vault.claim(rooms(crm=3), 3)
    refuse_to_read(vault, monkeypatch)
    assert await vault.is_held(claims[2])


@pytest.mark.parametrize("what", ["removal", "login", "recovery"])
async def test_whatever_else_is_written_is_seen_by_the_last_look(vault: Vault, what: str) -> None:
    claim = (await three(vault))[2]
    match what:
        case "removal":
            await vault.remove("c")
        case "login":
            await vault.authorize("c", login_of(await get(vault, "c"), answered("at", "rt-new")))
        case _:
            # What a dead process left is committed beside the claims of this one.
            left = Claim(grant=claim.grant, renewal=claim.renewal, access_token=None)
            await finish(vault, left, answered("at-1", "rt-1"))
    assert not await vault.is_held(claim)


async def test_what_waits_for_the_writer_counts_as_written(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written before the request leaves, and after the look."""
    claim = (await three(vault))[2]
    reads: list[None] = []
    look = vault._database._look

    def counted(*asked: Any) -> None:
        reads.append(None)
        look(*asked)

    monkeypatch.setattr(vault._database, "_look", counted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(vault.hastening.blocked, "crm")
        await anyio.lowlevel.checkpoint()
        assert vault._database._waiting
        await vault.is_held(claim)
    assert reads


async def test_claims_are_looked_at_together_and_each_for_itself(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = await three(vault)
    await vault.remove("b")
    reads: list[None] = []
    look = vault._database._look

    def counted(*asked: Any) -> None:
        reads.append(None)
        look(*asked)

    monkeypatch.setattr(vault._database, "_look", counted)
    held: dict[str, bool] = {}

    async def ask(claim: Claim) -> None:
        held[claim.grant.name] = await vault.is_held(claim)

    async with anyio.create_task_group() as tasks:
        for claim in claims:
            tasks.start_soon(ask, claim)
    assert held == {"a": True, "b": False, "c": True}
    assert len(reads) == 1


async def test_a_look_that_fails_tells_everybody_who_waits(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = await three(vault)
    await vault.remove("b")  # so that nothing is believed without a look

    def broken(*_: Any) -> NoReturn:
        raise RuntimeError("no thread")

    thread = vault._database._read_thread
    monkeypatch.setattr(thread, "submit", broken)
    told: list[str] = []

    async def ask(claim: Claim) -> None:
        try:
            await vault.is_held(claim)
        except VaultUnavailable:
            told.append(claim.grant.name)

    async with anyio.create_task_group() as tasks:
        for claim in claims:
            tasks.start_soon(ask, claim)
    assert sorted(told) == ["a", "b", "c"]
    monkeypatch.undo()
    assert await vault.is_held(claims[0])


@pytest.mark.of_a_file
async def test_without_the_lock_the_last_look_reads(vault: Vault) -> None:
    claim = (await three(vault))[2]
    vault._lock.release()
    with closing(sqlite3.connect(vault.files.path, isolation_level=None)) as other:
        other.execute("UPDATE grants SET lease_holder = NULL")
    assert not await vault.is_held(claim)


async def test_without_the_lock_nothing_is_published_unread(vault: Vault) -> None:
    claim = (await three(vault))[2]
    vault._lock.release()
    assert (await finish(vault, claim, answered("at-c", "rt-c-1"))).publication is None


async def test_a_failure_is_published_from_its_row(vault: Vault) -> None:
    claim = (await three(vault))[2]
    assert (await finish(vault, claim, NOT_SENT)).publication is None


async def test_many_due_are_claimed_in_their_order(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read ahead by the dozen; who is made due meanwhile by a person waits for no list."""
    monkeypatch.setattr("refresher.vault.candidates.AHEAD", 4)
    names = [f"g{n}" for n in range(10)]
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in names))
    for number, name in enumerate(names):
        await refresh(vault, answered(f"at-{name}"), NOW + number, name)
    due = NOW + LIFE
    first = await at(vault, due).claim(rooms(crm=2), 2)
    assert [claim.grant.name for claim in first] == ["g0", "g1"]
    await finish(vault, first[0], answered("again"), due)
    second = await at(vault, due).claim(rooms(crm=2), 2)
    assert [claim.grant.name for claim in second] == ["g2", "g3"]
    await at(vault, due).remove("g4")
    third = await at(vault, due).claim(rooms(crm=9), 9)
    assert [claim.grant.name for claim in third] == ["g5", "g6", "g7", "g8", "g9"]
