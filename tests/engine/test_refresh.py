"""One refresh: claim, send, commit, publish, in that order, whatever fails in between."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import anyio
import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Claim, GrantState
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RefreshTokenOnly,
    RequestRejected,
    TokenAnswer,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.rescue import RescueFile
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.engine.world import Call, Endpoint, Lines, Parts, answering, assemble, wait_until
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    get,
    holds,
    login_of,
    make_client,
    make_seed,
    orphans,
    set_writable,
    sow,
)


async def claim(parts: Parts, name: str = "acme") -> Claim:
    [claimed] = await parts.refresh.claim({"crm": 1}, 1, only=name)
    return claimed


async def run(parts: Parts, name: str = "acme") -> Outcome:
    """One whole refresh of NAME, which must be due."""
    return await parts.refresh.run(await claim(parts, name), CRM)


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
    await vault.request_refresh("acme", parts.clock.now())
    await run(parts)
    first, second = parts.endpoint.calls
    assert first == Call(client="crm", secret="rt-0", scope=("own",), deadline=30.0)
    assert second == Call(client="crm", secret="rt-1", scope=("own",), deadline=15.0)


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
        await wait_until(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        assert parts.durability.is_refused
        assert rescue.read_bytes() != empty
        assert parts.published == []
        await anyio.sleep(0.05)
        set_writable(vault, writable=True)
    assert not parts.durability.is_refused
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
    file = RescueFile(rescue)
    assert file.open() == {}
    file.close()


async def test_a_refusing_vault_is_reported_once(vault: Vault, lines: Lines) -> None:
    async def script(call: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered(f"at-{call.secret}", f"{call.secret}-next")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(5)))
    claims = await parts.refresh.claim({"crm": 5}, 5)
    async with anyio.create_task_group() as tasks:
        for claimed in claims:
            tasks.start_soon(parts.refresh.run, claimed, CRM)
        await wait_until(lambda: len(lines.of(Event.ANSWER_RESCUED)) == 5, "five rescues")
        set_writable(vault, writable=True)
    assert lines.events().count("vault.refused") == 1
    assert lines.events().count("vault.recovered") == 1
    assert len(parts.endpoint.calls) == 5
    assert {grant.adopted_sequence for grant in await vault.grants()} == {1}


async def test_a_full_rescue_file_is_said(vault: Vault, lines: Lines) -> None:
    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered("at-1", "rt-1")

    while vault.rescue(b"another answer") is not None:
        pass
    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    claimed = await claim(parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parts.refresh.run, claimed, CRM)
        await wait_until(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
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
        await wait_until(lambda: lines.of(Event.VAULT_REFUSED), "the refusal")
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
        await wait_until(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        parts.durability.abandon()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        with pytest.raises(VaultUnavailable):
            await parts.refresh.run(claimed, CRM)
    assert parts.published == []
    assert not parts.durability.is_refused


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
    """Its outcome is unknown, its lease ends, and the refresh token is presented again."""
    parts = assemble(vault, answering())
    await sow(vault, make_seed())
    claimed = await claim(parts)
    await parts.refresh.give_back(claimed, CRM)
    grant = await get(vault)
    assert grant.failures == 1
    assert grant.intent == claimed.intent
    assert (await claim(parts)).intent.is_replay


SUCCESS = {
    "event": "exchange.succeeded",
    "level": "info",
    "timestamp": ANY,
    "grant": "acme",
    "client": "crm",
    "sequence": 1,
    "replay": False,
    "outcome": "Refreshed",
    "status": 200,
    "rotated": True,
    "duration_ms": 250.0,
    "state": "fresh",
    "reason": None,
    "version": int(NOW * 1000) + 250,
    "expires_at": NOW + LIFE,
    "next_attempt_at": NOW + 0.75 * LIFE,
    "failures": 0,
}
"""The one line of an exchange that went well, whole."""

FAILURE = SUCCESS | {
    "event": "exchange.failed",
    "level": "warning",
    "state": "pending",
    "version": 0,
    "expires_at": None,
    "next_attempt_at": ANY,
    "failures": 1,
}
del FAILURE["rotated"], FAILURE["status"]

REJECTION = FAILURE | {"event": "exchange.rejected", "level": "error"}

ONLY = TokenAnswer(access_token=None, refresh_token=Secret("rt-1"))

CANONICAL: list[tuple[Outcome, dict[str, Any]]] = [
    (answered("at-1", "rt-1"), SUCCESS),
    (answered("at-1"), SUCCESS | {"rotated": False}),
    (
        RefreshTokenOnly(answer=ONLY, status=200),
        FAILURE | {"outcome": "RefreshTokenOnly", "status": 200, "rotated": True},
    ),
    (NotSent(reason="dns"), FAILURE | {"outcome": "NotSent", "error": "dns"}),
    (
        Transient(reason="throttled", status=429, retry_after=60.0),
        FAILURE | {"outcome": "Transient", "status": 429, "error": "throttled", "retry_s": 60.0},
    ),
    (
        OutcomeUnknown(reason="server error", status=502),
        FAILURE
        | {"outcome": "OutcomeUnknown", "status": 502, "error": "server error", "retry_s": None},
    ),
    (
        RequestRejected(error="invalid_request", status=400),
        FAILURE | {"outcome": "RequestRejected", "status": 400, "error_code": "invalid_request"},
    ),
    (
        GrantRejected(error="invalid_grant", status=400),
        REJECTION
        | {
            "outcome": "GrantRejected",
            "status": 400,
            "error_code": "invalid_grant",
            "state": "reauthorization_required",
            "reason": "revoked:invalid_grant",
            "next_attempt_at": None,
        },
    ),
    (
        ClientRejected(error="invalid_client", status=401),
        REJECTION
        | {
            "outcome": "ClientRejected",
            "status": 401,
            "error_code": "invalid_client",
            "reason": "client_rejected:invalid_client",
        },
    ),
    (
        Misconfigured(error="invalid_scope", status=400),
        REJECTION
        | {
            "outcome": "Misconfigured",
            "status": 400,
            "error_code": "invalid_scope",
            "reason": "misconfigured:invalid_scope",
        },
    ),
]


@pytest.mark.parametrize(
    ("outcome", "line"),
    CANONICAL,
    ids=[f"{n} {row[1]['outcome']}" for n, row in enumerate(CANONICAL)],
)
async def test_every_exchange_has_one_whole_line(
    vault: Vault, lines: Lines, outcome: Outcome, line: dict[str, Any]
) -> None:
    async def script(_: Call) -> Outcome:
        parts.clock.move(0.25)
        return outcome

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    assert await run(parts) is outcome
    exchanges = [found for found in lines.all() if found["event"].startswith("exchange.")]
    assert exchanges == [line]


async def test_a_voided_answer_has_its_line(vault: Vault, lines: Lines) -> None:
    async def script(_: Call) -> Outcome:
        change = login_of(await get(vault), answered("at-login", "rt-login"))
        await vault.authorize("acme", change, NOW)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    await run(parts)
    superseded, orphaned = lines.all()
    assert superseded == SUCCESS | {
        "event": "exchange.superseded",
        "level": "warning",
        "duration_ms": 0.0,
        "version": int(NOW * 1000),
    }
    assert (orphaned["event"], orphaned["level"]) == ("answer.orphaned", "error")
    assert (orphaned["grant"], orphaned["sequence"]) == ("acme", 1)
    assert len(await orphans(vault)) == 1


async def test_an_answer_after_a_removal_has_its_line(vault: Vault, lines: Lines) -> None:
    async def script(_: Call) -> Outcome:
        await vault.remove("acme", NOW)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    await run(parts)
    assert lines.events() == ["exchange.superseded", "answer.orphaned"]
    assert lines.all()[0]["state"] == "removed"


async def test_doubts_and_kept_answers_are_said(vault: Vault, lines: Lines) -> None:
    doubtful = answered("at-1", expires_in=None, warnings=("token_type is missing",))
    unreadable = OutcomeUnknown(reason="unreadable", status=200, body=b"<html>")
    parts = assemble(vault, answering(doubtful, unreadable))
    await sow(vault, make_seed())
    await run(parts)
    await vault.request_refresh("acme", NOW)
    await run(parts)
    assert [line["reason"] for line in lines.of(Event.ANSWER_DOUBTED)] == [
        "token_type is missing",
        "no usable expires_in: assuming 3600 s",
    ]
    [kept] = lines.of(Event.ANSWER_KEPT)
    assert (kept["grant"], kept["sequence"]) == ("acme", 2)


async def test_a_lost_grant_is_announced_with_its_repair(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(UNKNOWN, GrantRejected(error="invalid_grant", status=400)))
    await sow(vault, make_seed())
    await run(parts)
    await run(parts)
    [lost] = lines.of(Event.GRANT_LOST)
    assert lost == {
        "event": "grant.lost",
        "level": "error",
        "timestamp": ANY,
        "grant": "acme",
        "client": "crm",
        "reason": "rotation_lost:invalid_grant",
        "expires_at": None,
        "next_attempt_at": None,
        "repair": "refresher login acme",
    }


async def test_a_halted_grant_is_announced(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(UNKNOWN))
    await sow(vault, make_seed())
    halting = make_client(on_unknown_outcome=UnknownOutcome.HALT)
    await parts.refresh.run(await claim(parts), halting)
    [paused] = lines.of(Event.GRANT_PAUSED)
    assert (paused["reason"], paused["repair"]) == ("outcome_unknown", "refresher refresh acme")


async def test_a_recovered_grant_is_announced(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(answered("at-1"), answered("at-2")))
    await sow(vault, make_seed())
    await run(parts)
    assert lines.of(Event.GRANT_RECOVERED) == []
    parts.clock.move(LIFE)
    await vault.time_passed(parts.clock.now())
    await run(parts)
    assert len(lines.of(Event.GRANT_RECOVERED)) == 1
    assert (await get(vault)).state is GrantState.FRESH


async def test_no_line_holds_a_secret(vault: Vault, lines: Lines, canary: Canary) -> None:
    odd = TokenAnswer(access_token=None, refresh_token=Secret(canary.plant("only")))
    outcomes: list[Outcome] = [
        RefreshTokenOnly(answer=odd, status=200),
        OutcomeUnknown(reason="unreadable", status=200, body=canary.plant("body").encode()),
        answered(canary.plant("at"), canary.plant("rt-1"), extras={"url": canary.plant("extra")}),
    ]

    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return outcomes.pop()

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed(refresh_token=canary.plant("rt")))
    for number in (1, 2, 3):
        await vault.request_refresh("acme", NOW)
        claimed = await claim(parts)
        assert canary.found_in(repr(claimed).encode()) == set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parts.refresh.run, claimed, CRM)
            await wait_for_refusals(lines, number)
            set_writable(vault, writable=True)
    assert len(lines.all()) >= 9
    assert canary.found_in(lines.output.getvalue().encode()) == set()


async def wait_for_refusals(lines: Lines, number: int) -> None:
    await wait_until(lambda: len(lines.of(Event.VAULT_REFUSED)) == number, "a refusal")
