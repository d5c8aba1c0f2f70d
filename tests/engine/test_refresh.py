"""One refresh: claim, send, commit, publish, in that order, whatever fails in between."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from refresher.domain.outcomes import Outcome
from refresher.domain.schedule import LONGEST_RETRY
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.rescue import RescueFile
from refresher.vault.vault import Vault
from tests.engine.world import (
    Call,
    Endpoint,
    Lines,
    answering,
    assemble,
    claim,
    run,
)
from tests.support.threads import Inline
from tests.support.waiting import eventually
from tests.vault.world import (
    CRM,
    LIFE,
    NOT_SENT,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    get,
    holds,
    make_seed,
    refresh,
    rooms,
    set_writable,
    sow,
)


async def test_claim_send_commit_publish_in_order(vault: Vault, tmp_path: Path) -> None:
    """Each step finds the one before it durable, as another process would see it."""
    steps: list[tuple[str, Any]] = []

    def on_disk() -> Any:
        with sqlite3.connect(tmp_path / "vault.db") as other:
            row = other.execute("select intent_sequence, adopted_sequence from grants").fetchone()
        other.close()
        return row

    async def script(_: Call) -> Outcome:
        steps.append(("send", on_disk()))
        return answered("at-1", "rt-1")

    parts = assemble(
        vault, Endpoint(script), publish=lambda name: steps.append((f"publish {name}", on_disk()))
    )
    await sow(vault, make_seed())
    await run(parts)
    assert steps == [("send", (1, 0)), ("publish acme", (None, 1))]


async def test_the_request_carries_what_was_claimed(vault: Vault) -> None:
    parts = assemble(vault, answering(answered("at-1", "rt-1"), answered("at-2")))
    await sow(vault, make_seed(scope=("own",)))
    await run(parts)
    parts.clock.move(LIFE - 45)
    await at(vault, parts.clock.now()).request_refresh("acme")
    await run(parts)
    first, second = parts.endpoint.calls
    assert first == Call(client="crm", secret="rt-0", scope=("own",), deadline=90.0)
    assert second == Call(client="crm", secret="rt-1", scope=("own",), deadline=90.0)


async def test_the_clients_scope_serves_a_grant_without(vault: Vault) -> None:
    parts = assemble(vault, answering(answered("at-1")))
    await sow(vault, make_seed())
    await parts.refresh.run(await claim(parts), replace(CRM, scope=("a", "b")))
    assert parts.endpoint.calls[0].scope == ("a", "b")


async def test_nothing_is_sent_when_a_claim_fails(vault: Vault) -> None:
    parts = assemble(vault, answering())
    await sow(vault, make_seed())
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await claim(parts)
    assert parts.endpoint.calls == []
    assert (await get(vault)).intent is None


async def test_expiry_counts_from_the_send(vault: Vault) -> None:
    async def script(_: Call) -> Outcome:
        parts.clock.move(20)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    await run(parts)
    grant = await get(vault)
    assert (grant.issued_at, grant.expires_at) == (NOW, NOW + LIFE)
    assert grant.version == int((NOW + 20) * 1000)


async def test_a_refused_commit_is_tried_until_written(
    vault: Vault, lines: Lines, tmp_path: Path
) -> None:
    """The answer is in hand and the vault refuses: nothing is lost, nothing is sent again."""

    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered("at-1", "rt-1")

    rescue = tmp_path / "vault.db.rescue"
    empty = rescue.read_bytes()
    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    claimed = await claim(parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parts.refresh.run, claimed, CRM)
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        assert vault.outage.is_on
        assert rescue.read_bytes() != empty
        assert parts.published == []
        await anyio.sleep(0.05)
        set_writable(vault, writable=True)
    assert not vault.outage.is_on
    assert len(parts.endpoint.calls) == 1
    assert parts.published == ["acme"]
    assert holds(vault, await get(vault), "rt-1")
    assert await access_token(vault) == "at-1"
    assert lines.events() == [
        "vault.refused",
        "answer.rescued",
        "vault.recovered",
        "exchange.succeeded",
    ]
    assert lines.all()[0]["reason"] == "the vault is read-only (SQLITE_READONLY)"
    vault.close()
    file = RescueFile(rescue, slots=1, writer=Inline(), syncer=Inline())
    assert file.open() == {}
    file.close()


async def test_a_refusing_vault_is_reported_once(vault: Vault, lines: Lines) -> None:
    async def script(call: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered(f"at-{call.secret}", f"{call.secret}-next")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(5)))
    claims = await parts.refresh.claim(rooms(crm=5), 5)
    async with anyio.create_task_group() as tasks:
        for claimed in claims:
            tasks.start_soon(parts.refresh.run, claimed, CRM)
        await eventually(lambda: len(lines.of(Event.ANSWER_RESCUED)) == 5, "five rescues")
        set_writable(vault, writable=True)
    assert lines.events().count("vault.refused") == 1
    assert lines.events().count("vault.recovered") == 1
    assert len(parts.endpoint.calls) == 5
    assert {grant.adopted_sequence for grant in await vault.grants()} == {1}


async def test_a_full_rescue_file_is_said(vault: Vault, lines: Lines) -> None:
    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered("at-1", "rt-1")

    while vault.rescued.put(b"another answer", lambda _: None).slot is not None:
        pass
    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    claimed = await claim(parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parts.refresh.run, claimed, CRM)
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        set_writable(vault, writable=True)
    [line] = lines.of(Event.ANSWER_RESCUED)
    assert line["outcome"] == "in memory only"
    assert holds(vault, await get(vault), "rt-1")


async def test_a_failure_needs_no_rescue(vault: Vault, lines: Lines) -> None:
    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return UNKNOWN

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    claimed = await claim(parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parts.refresh.run, claimed, CRM)
        await eventually(lambda: lines.of(Event.VAULT_REFUSED), "the refusal")
        set_writable(vault, writable=True)
    assert lines.of(Event.ANSWER_RESCUED) == []
    assert (await get(vault)).failures == 1


async def test_an_abandoned_commit_ends_with_the_process(vault: Vault, lines: Lines) -> None:
    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    claimed = await claim(parts)

    async def give_up() -> None:
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        parts.durability.abandon()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        with pytest.raises(VaultUnavailable):
            await parts.refresh.run(claimed, CRM)
    assert parts.published == []
    assert not vault.outage.is_on


async def test_a_cancelled_refresh_ends_by_itself(vault: Vault) -> None:
    parts = assemble(vault, answering())
    await sow(vault, make_seed())
    claimed = await claim(parts)
    with anyio.CancelScope() as scope:

        async def script(_: Call) -> Outcome:
            scope.cancel()
            await anyio.sleep(0.01)
            return answered("at-1", "rt-1")

        parts.endpoint.script = script
        await parts.refresh.run(claimed, CRM)
    assert scope.cancel_called
    assert parts.published == ["acme"]
    assert holds(vault, await get(vault), "rt-1")


async def test_a_broken_exchange_is_given_back(vault: Vault) -> None:
    """Its outcome is unknown, its lease ends, and it is looked at again in a while."""
    parts = assemble(vault, answering())
    await sow(vault, make_seed())
    claimed = await claim(parts)
    await parts.refresh.give_back(claimed)
    grant = await get(vault)
    assert grant.failures == 1
    assert grant.intent == claimed.intent
    assert grant.due_at == NOW + LONGEST_RETRY
    parts.clock.move(LONGEST_RETRY)
    assert (await claim(parts)).intent.is_replay


@pytest.mark.parametrize(("step", "issued_at"), [(-7200, NOW - 7200), (7200, NOW)])
async def test_a_clock_stepped_in_mid_exchange_ends_no_token_late(
    vault: Vault, step: float, issued_at: float
) -> None:
    async def script(_: Call) -> Outcome:
        parts.clock.move(20)
        parts.clock.step(step)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    await run(parts)
    grant = await get(vault)
    assert (grant.issued_at, grant.expires_at) == (issued_at, issued_at + LIFE)


@pytest.mark.parametrize("brings", ["tokens", "a failure"])
async def test_a_clock_set_back_before_the_commit_delays_nothing(
    vault: Vault, lines: Lines, brings: str
) -> None:
    """The vault refused for a while, and the answer had been dated on a clock ahead."""
    outcome = answered("at-1", "rt-1") if brings == "tokens" else NOT_SENT

    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return outcome

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    before = await refresh(vault, answered("at-0", "rt-00"))
    await at(vault, NOW).request_refresh("acme")

    async def step_and_mend() -> None:
        await eventually(lambda: lines.of(Event.VAULT_REFUSED), "the refusal")
        parts.clock.step(-7200)
        set_writable(vault, writable=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(step_and_mend)
        await run(parts)
    after = await get(vault)
    assert after.due_at is not None
    if brings == "tokens":
        assert (after.issued_at, after.expires_at) == (NOW - 7200, NOW - 7200 + LIFE)
        assert after.due_at == NOW - 7200 + 0.75 * LIFE
    else:
        assert before.expires_at is not None
        assert after.expires_at == before.expires_at - 7200
        assert NOW - 7200 < after.due_at < NOW - 7200 + 60
