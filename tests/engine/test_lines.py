"""What is logged of a refresh: one whole line, what it did to the grant, and no secret."""

from typing import Any
from unittest.mock import ANY

import anyio
import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import GrantState
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
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.engine.world import (
    Call,
    Endpoint,
    Lines,
    answering,
    assemble,
    claim,
    run,
)
from tests.support.waiting import eventually
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    UNKNOWN,
    answered,
    at,
    get,
    login_of,
    make_client,
    make_seed,
    orphans,
    set_writable,
    sow,
)

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
        FAILURE
        | {
            "outcome": "RefreshTokenOnly",
            "status": 200,
            "rotated": True,
            "reason": "no_access_token",
        },
    ),
    (
        NotSent(reason="dns"),
        FAILURE | {"outcome": "NotSent", "error": "dns", "reason": "unreachable:dns"},
    ),
    (
        Transient(reason="throttled", status=429, retry_after=60.0),
        FAILURE
        | {
            "outcome": "Transient",
            "status": 429,
            "error": "throttled",
            "retry_s": 60.0,
            "reason": "server_busy:throttled",
        },
    ),
    (
        OutcomeUnknown(reason="http_502", status=502),
        FAILURE
        | {
            "outcome": "OutcomeUnknown",
            "status": 502,
            "error": "http_502",
            "retry_s": None,
            "reason": "outcome_unknown:http_502",
        },
    ),
    (
        RequestRejected(error="invalid_request", status=400),
        FAILURE
        | {
            "outcome": "RequestRejected",
            "status": 400,
            "error_code": "invalid_request",
            "reason": "request_rejected:invalid_request",
        },
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
        await vault.authorize("acme", change)
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
        await vault.remove("acme")
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
    await vault.request_refresh("acme")
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
    parts.clock.move(90)
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
        "repair": "refresher login acme; if the server was wrong: refresher refresh --lost acme",
        "refresh_token_age_s": 90,
        "refresh_token_idle_s": 90,
    }


async def test_another_scope_is_announced(vault: Vault, lines: Lines) -> None:
    scopes = ("read write", "read write", "write admin", None)
    answers = [answered(f"at-{n}", scope=scope) for n, scope in enumerate(scopes)]
    parts = assemble(vault, answering(*answers))
    await sow(vault, make_seed())
    for _ in scopes:
        await vault.request_refresh("acme")
        await run(parts)
    [line] = lines.of(Event.GRANT_SCOPE_CHANGED)
    assert (line["gone"], line["new"]) == (["read"], ["admin"])
    [published] = await vault.read(["acme"])
    assert published.scope == "write admin"


async def test_a_paused_grant_is_announced(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(UNKNOWN))
    await sow(vault, make_seed())
    pausing = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)
    await parts.refresh.run(await claim(parts), pausing)
    [paused] = lines.of(Event.GRANT_PAUSED)
    assert paused["reason"] == "outcome_unknown:timeout"
    assert paused["repair"].startswith("refresher resume acme sends the same refresh token again")


async def test_a_recovered_grant_is_announced(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(answered("at-1"), answered("at-2")))
    await sow(vault, make_seed())
    await run(parts)
    assert lines.of(Event.GRANT_RECOVERED) == []
    parts.clock.move(LIFE)
    await at(vault, parts.clock.now()).time_passed()
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
        await vault.request_refresh("acme")
        claimed = await claim(parts)
        assert canary.found_in(repr(claimed).encode()) == set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parts.refresh.run, claimed, CRM)
            await wait_for_refusals(lines, number)
            set_writable(vault, writable=True)
    assert len(lines.all()) >= 9
    assert canary.found_in(lines.output.getvalue().encode()) == set()


async def wait_for_refusals(lines: Lines, number: int) -> None:
    await eventually(lambda: len(lines.of(Event.VAULT_REFUSED)) == number, "a refusal")
