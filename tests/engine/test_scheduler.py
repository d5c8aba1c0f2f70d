"""The scheduler: what is due and allowed runs, a bug costs one grant, and the end is orderly."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from refresher.domain.clients import Client, UnknownOutcome
from refresher.domain.grants import Claim, GrantState
from refresher.domain.outcomes import NotSent, Outcome, OutcomeUnknown, Transient
from refresher.engine.admission import Admission
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.schema import grants
from refresher.vault.threads import OwnThread
from refresher.vault.vault import Vault
from tests.engine.world import (
    Call,
    Endpoint,
    Lines,
    Parts,
    answering,
    assemble,
    scheduling,
)
from tests.support.renewals import presented
from tests.support.waiting import PATIENCE, eventually
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    access_token,
    answered,
    at,
    get,
    holds,
    login_of,
    make_client,
    make_seed,
    release,
    set_writable,
    sow,
)

WIDE = make_client(concurrency=100)


async def rotating(call: Call) -> Outcome:
    """A successor for every refresh token."""
    await anyio.sleep(0.001)
    return answered(f"at-{call.secret}", f"{call.secret}-next")


async def sow_many(vault: Vault, count: int, client: str = "crm") -> None:
    await sow(vault, *(make_seed(f"{client}-{n}", f"rt-{n}", client=client) for n in range(count)))


async def until_adopted(parts: Parts, count: int) -> None:
    """Wait until COUNT answers were published."""
    await eventually(lambda: len(parts.published) >= count, f"{count} publications")


async def test_what_is_due_is_refreshed(vault: Vault) -> None:
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 20)
    async with scheduling(parts) as scheduler:
        await until_adopted(parts, 20)
        await eventually(lambda: scheduler.in_flight == 0, "idle workers")
    assert sorted(call.secret for call in parts.endpoint.calls) == sorted(
        f"rt-{n}" for n in range(20)
    )
    assert {grant.state for grant in await vault.grants()} == {GrantState.FRESH}


@pytest.mark.parametrize(
    ("workers", "client", "most"),
    [(3, WIDE, 4), (9, make_client(concurrency=2), 2)],
    ids=["by workers", "by the client"],
)
async def test_exchanges_in_flight_are_bounded(
    vault: Vault, workers: int, client: Client, most: int
) -> None:
    armed: list[int] = []

    async def script(call: Call) -> Outcome:
        armed.append(sum(grant.intent is not None for grant in await vault.grants()))
        return await rotating(call)

    parts = assemble(vault, Endpoint(script))
    await sow_many(vault, 25)
    async with scheduling(parts, {"crm": client}, workers=workers):
        await until_adopted(parts, 25)
    assert parts.endpoint.most_in_flight == most
    assert max(armed) <= most


async def test_a_busy_client_does_not_stop_another(vault: Vault) -> None:
    release = anyio.Event()

    async def script(call: Call) -> Outcome:
        if call.client == "crm":
            await release.wait()
        return await rotating(call)

    parts = assemble(vault, Endpoint(script))
    clients = {"crm": make_client(concurrency=2), "erp": make_client("erp", concurrency=2)}
    await sow_many(vault, 10)
    await sow_many(vault, 10, "erp")
    async with scheduling(parts, clients, workers=4):
        await until_adopted(parts, 10)
        assert {name.partition("-")[0] for name in parts.published} == {"erp"}
        release.set()
        await until_adopted(parts, 20)


async def test_a_wake_finds_what_became_due(vault: Vault) -> None:
    parts = assemble(vault, Endpoint(rotating))
    async with scheduling(parts) as scheduler:
        await anyio.sleep(0.02)
        await sow_many(vault, 1)
        scheduler.wake()
        await until_adopted(parts, 1)


async def test_the_next_refresh_comes_at_its_time(vault: Vault) -> None:
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 1)
    async with scheduling(parts) as scheduler:
        await until_adopted(parts, 1)
        parts.clock.move(0.75 * LIFE - 1)
        scheduler.wake()
        await anyio.sleep(0.02)
        assert len(parts.endpoint.calls) == 1
        parts.clock.move(1)
        scheduler.wake()
        await until_adopted(parts, 2)
    assert [call.secret for call in parts.endpoint.calls] == ["rt-0", "rt-0-next"]


async def test_an_idle_loop_does_not_spin(vault: Vault) -> None:
    """Closed endpoints, exhausted rates and an empty vault are waited for, not polled."""
    throttled = Transient(reason="throttled", status=429, retry_after=60.0)
    parts = assemble(vault, answering(throttled))
    await sow_many(vault, 5)
    async with scheduling(parts, {"crm": make_client(concurrency=1)}):
        await until_adopted(parts, 1)
        await anyio.sleep(0.02)
        turns = parts.clock.monotonic_reads
        await anyio.sleep(0.1)
        assert parts.clock.monotonic_reads - turns <= 2
    assert len(parts.endpoint.calls) == 1


async def test_a_bug_costs_one_grant_a_retry(vault: Vault, lines: Lines) -> None:
    async def script(call: Call) -> Outcome:
        if call.secret == "rt-3":
            raise ZeroDivisionError("canary: what it failed on")
        return await rotating(call)

    parts = assemble(vault, Endpoint(script))
    await sow_many(vault, 8)
    async with scheduling(parts) as scheduler:
        await until_adopted(parts, 7)
        await eventually(lambda: lines.of(Event.TASK_RESTARTED), "the report")
        await eventually(lambda: scheduler.in_flight == 0, "idle workers")
        script_calls = [call for call in parts.endpoint.calls if call.secret == "rt-3"]
    broken = await get(vault, "crm-3")
    assert broken.failures >= 1
    assert broken.intent is not None
    assert await release(vault, NOW) == []
    assert len(script_calls) >= 1
    line = lines.of(Event.TASK_RESTARTED)[0]
    assert (line["task"], line["grant"], line["error"]) == ("worker", "crm-3", "ZeroDivisionError")
    assert any("script" in frame for frame in line["traceback"])
    assert "canary" not in lines.output.getvalue()


async def test_an_unknown_clients_grants_wait(vault: Vault) -> None:
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 2)
    await sow_many(vault, 2, "gone")
    async with scheduling(parts):
        await until_adopted(parts, 2)
        await anyio.sleep(0.02)
    assert sorted(parts.published) == ["crm-0", "crm-1"]


async def test_a_dropped_clients_exchange_ends_well(vault: Vault, lines: Lines) -> None:
    """A reload drops the client after its room was counted: no lease may be left behind."""
    parts = assemble(vault, Endpoint(rotating))
    clients = {"crm": CRM}
    await sow_many(vault, 3)
    go_on, reading = threading.Event(), threading.Event()
    readers = vault._database._read_thread
    assert isinstance(readers, OwnThread)

    def read_slowly(_: object) -> None:
        reading.set()
        go_on.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(vault._database.read, read_slowly)
        await eventually(reading.is_set, "a slow reader")
        async with scheduling(parts, clients):
            await eventually(readers._jobs.qsize, "the look for due grants")
            clients.clear()
            go_on.set()
            await anyio.sleep(0.02)
    assert lines.of(Event.TASK_RESTARTED) == []
    assert await release(vault, NOW) == []


async def test_draining_waits_for_what_is_in_flight(vault: Vault) -> None:
    go_on = anyio.Event()

    async def script(call: Call) -> Outcome:
        await go_on.wait()
        return await rotating(call)

    parts = assemble(vault, Endpoint(script))
    await sow_many(vault, 10)
    drained = anyio.Event()
    async with scheduling(parts, {"crm": WIDE}, workers=3) as scheduler:
        await eventually(lambda: parts.endpoint.in_flight == 4, "four exchanges")
        async with anyio.create_task_group() as tasks:

            async def drain() -> None:
                await scheduler.drain()
                drained.set()

            tasks.start_soon(drain)
            await anyio.sleep(0.02)
            assert not drained.is_set()
            go_on.set()
        assert scheduler.in_flight == 0
    assert len(parts.endpoint.calls) == len(parts.published) == 4
    assert await release(vault, NOW) == []


async def test_draining_waits_for_a_claim_under_way(vault: Vault, tmp_path: Path) -> None:
    """What was claimed is carried out: an intent left armed would look like an open exchange."""
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 2)
    other = sqlite3.connect(tmp_path / "vault.db", isolation_level=None)
    other.execute("begin immediate")
    async with scheduling(parts):
        await eventually(lambda: vault._database._under_way, "a claim under way")
        await anyio.sleep(0.02)
        other.execute("rollback")
    other.close()
    grants = await vault.grants()
    assert [grant.intent for grant in grants] == [None, None]
    assert sum(grant.attempt_sequence for grant in grants) == len(parts.endpoint.calls)


async def test_draining_an_idle_scheduler_is_quick(vault: Vault) -> None:
    parts = assemble(vault, answering())
    with anyio.fail_after(PATIENCE):
        async with scheduling(parts):
            await anyio.sleep(0.01)


async def test_a_vaults_refusal_is_reported_once(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 3)
    set_writable(vault, writable=False)
    async with scheduling(parts) as scheduler:
        for _ in range(5):
            await eventually(lambda: vault.outage.is_on, "the refusal")
            await anyio.sleep(0.005)
            scheduler.wake()
        assert parts.endpoint.calls == []
        set_writable(vault, writable=True)
        scheduler.wake()
        await until_adopted(parts, 3)
        assert not vault.outage.is_on
    assert lines.events().count("vault.refused") == 1
    assert lines.events().count("vault.recovered") == 1
    assert lines.of(Event.VAULT_REFUSED)[0]["reason"] == (
        "the vault is read-only (SQLITE_READONLY)"
    )


async def test_a_refusal_ends_without_anything_due(vault: Vault, lines: Lines) -> None:
    """Readiness must come back although the grant that met the refusal is gone."""
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 1)
    set_writable(vault, writable=False)
    async with scheduling(parts) as scheduler:
        await eventually(lambda: vault.outage.is_on, "the refusal")
        set_writable(vault, writable=True)
        await vault.remove("crm-0")
        scheduler.wake()
        await eventually(lambda: not vault.outage.is_on, "the recovery")
    assert lines.events().count("vault.recovered") == 1
    assert parts.endpoint.calls == []


async def test_the_loop_outlives_its_own_bugs(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, Endpoint(rotating))
    await sow_many(vault, 1)
    next_due = vault.next_due

    async def broken(*_: object, **__: object) -> float | None:
        vault.next_due = next_due  # type: ignore[method-assign]  # once is enough
        raise ZeroDivisionError

    vault.next_due = broken  # type: ignore[method-assign]  # the bug
    async with scheduling(parts) as scheduler:
        await eventually(lambda: lines.of(Event.TASK_RESTARTED), "the report")
        scheduler.wake()
        await until_adopted(parts, 1)
    assert lines.of(Event.TASK_RESTARTED)[0]["task"] == "scheduler"
    assert (await get(vault, "crm-0")).state is GrantState.FRESH


async def test_failures_are_retried_with_patience(vault: Vault) -> None:
    outcomes: list[Outcome] = [
        NotSent(reason="refused"),
        NotSent(reason="refused"),
        answered("at-1", "rt-1"),
    ]

    async def script(_: Call) -> Outcome:
        return outcomes.pop(0)

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    async with scheduling(parts) as scheduler:
        for number in (1, 2):
            await until_adopted(parts, number)
            await anyio.sleep(0.02)
            assert len(parts.endpoint.calls) == number
            parts.clock.move(30)
            scheduler.wake()
        await until_adopted(parts, 3)
    assert await access_token(vault) == "at-1"


async def test_an_abandoned_exchange_ends_in_order(vault: Vault, lines: Lines) -> None:
    """The process ends while the vault refuses: no bug, no crash, the answer is rescued."""

    async def script(call: Call) -> Outcome:
        set_writable(vault, writable=False)
        return await rotating(call)

    parts = assemble(vault, Endpoint(script))
    await sow_many(vault, 1)
    async with scheduling(parts):
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        parts.durability.abandon()
    assert lines.of(Event.TASK_RESTARTED) == []
    assert parts.published == []


async def test_what_was_claimed_before_a_refusal_is_held_back(vault: Vault, lines: Lines) -> None:
    """The refusal came while the claim was under way: nothing is sent into a Retry-After."""
    parts = assemble(vault, answering())
    await sow(vault, make_seed())
    admission = Admission({"crm": CRM}, parts.clock)
    claim, claimed = vault.claim, anyio.Event()

    async def slow_claim(*arguments: Any, **options: Any) -> list[Claim]:
        claims = await claim(*arguments, **options)
        other = claims[0]
        admission.begun(CRM, other)
        throttled = Transient(reason="http_429", status=429, retry_after=60.0)
        admission.ended(CRM, other, throttled)
        claimed.set()
        return claims

    vault.claim = slow_claim  # type: ignore[method-assign]  # the refusal comes in between
    async with scheduling(parts, admission=admission):
        await claimed.wait()
        await wait_until_idle(vault)
        grant = await get(vault)
        assert (grant.due_at, grant.failures, grant.intent) == (NOW, 0, None)
        assert parts.endpoint.calls == []
    assert lines.events() == ["endpoint.suspended"]


async def wait_until_idle(vault: Vault) -> None:
    """Until no grant is leased."""
    while True:
        leased = await vault._database.read(
            lambda c: c.scalar(sa.select(grants.c.lease_holder).where(grants.c.name == "acme"))
        )
        if leased is None:
            return
        await anyio.sleep(0.005)


async def test_a_last_chance_goes_out_in_spite_of_a_retry_after(vault: Vault) -> None:
    """An answer was lost; when the server may be asked again, its grace window is over."""
    grace = make_client(
        rotation="grace(60)", on_unknown_outcome=UnknownOutcome.REPLAY, concurrency=1
    )
    busy = OutcomeUnknown(reason="http_503", status=503, retry_after=300.0)
    parts = assemble(vault, answering(busy, answered("at-1", "rt-1")))
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    await at(vault, NOW).request_refresh("other")
    admission = Admission({"crm": grace}, parts.clock)
    async with scheduling(parts, {"crm": grace}, admission=admission, workers=1) as scheduler:
        await until_adopted(parts, 1)
        first = await get(vault, parts.published[0])
        assert first.due_at == NOW + 0.66 * 60 - 15
        assert admission.is_closed(grace)
        parts.clock.move(0.66 * 60 - 15)
        scheduler.wake()
        await until_adopted(parts, 2)
        assert parts.published == [first.name] * 2
        assert holds(vault, await get(vault, first.name), "rt-1")
        # Nobody else goes out while the server wants quiet.
        parts.clock.move(20)
        scheduler.wake()
        await anyio.sleep(0.05)
        assert len(parts.endpoint.calls) == 2


async def test_a_claim_that_no_longer_stands_is_not_sent(vault: Vault) -> None:
    """A login came between the claim and the send: the old refresh token stays at home."""
    parts = assemble(vault, Endpoint(rotating))
    await sow(vault, make_seed())
    claim = vault.claim

    async def overtaken(*arguments: Any, **options: Any) -> list[Claim]:
        claims = await claim(*arguments, **options)
        for one in claims:
            if presented(one) == "rt-0":
                change = login_of(await get(vault), answered("at-login", "rt-login"))
                await vault.authorize("acme", change)
        return claims

    vault.claim = overtaken  # type: ignore[method-assign]  # the login comes in between
    async with scheduling(parts):
        await wait_until_idle(vault)
        await anyio.sleep(0.05)
    assert parts.endpoint.calls == []
    grant = await get(vault)
    assert holds(vault, grant, "rt-login")
    assert (grant.state, grant.failures) == (GrantState.FRESH, 0)
    assert await release(vault, NOW) == []


async def test_nothing_is_sent_when_the_vault_cannot_be_asked(vault: Vault) -> None:
    parts = assemble(vault, Endpoint(rotating))
    await sow(vault, make_seed())
    is_held, asked = vault.is_held, 0

    async def away(one: Claim) -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise VaultUnavailable("away")
        return await is_held(one)

    vault.is_held = away  # type: ignore[method-assign, assignment]  # it cannot be read once
    async with scheduling(parts):
        await until_adopted(parts, 1)
    assert [call.secret for call in parts.endpoint.calls] == ["rt-0"]
    assert asked == 2
