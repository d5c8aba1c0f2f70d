"""A bug of ours between an answer and its commit: the answer outlives it."""

from pathlib import Path

import pytest

from refresher.domain.grants import GrantState
from refresher.domain.outcomes import AnswerUnread, Outcome
from refresher.domain.reasons import Reason
from refresher.domain.repairs import repair
from refresher.domain.transition import transition
from refresher.engine import recovery, refresh
from refresher.engine.records import exchange_record
from refresher.engine.recovery import recover
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.engine.world import Lines, answering, assemble, run
from tests.vault.world import (
    CRM,
    NOW,
    access_token,
    answered,
    at,
    claim_one,
    get,
    holds,
    make_seed,
    opened,
    orphans,
    outcome_of,
    rescue,
    sow,
)

BODY = b'{"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600}'


def unread(status: int = 200, body: bytes = BODY) -> Outcome:
    return AnswerUnread(status=status, body=body, bug=ZeroDivisionError("rt-1"))


async def restart(vault: Vault, now: float = NOW + 60) -> None:
    await recover(at(vault, now), {"crm": CRM}, vault.clock)


async def test_an_unread_answer_is_kept_and_nothing_is_sent_again(
    vault: Vault, lines: Lines
) -> None:
    parts = assemble(vault, answering(unread()))
    await sow(vault, make_seed())
    await run(parts)
    grant = await get(vault)
    assert (grant.state, grant.reason, grant.due_at) == (
        GrantState.PAUSED,
        Reason.ANSWER_UNREAD,
        None,
    )
    assert repair(grant) == "a newer refresher may read its answer; or: refresher login acme"
    [bug] = lines.of(Event.TASK_RESTARTED)
    assert (bug["task"], bug["error"], bug["grant"]) == ("answer", "ZeroDivisionError", "acme")
    [line] = lines.of(Event.EXCHANGE_FAILED)
    assert (line["outcome"], line["error"]) == ("AnswerUnread", "internal_error")
    assert len(lines.of(Event.ANSWER_KEPT)) == len(lines.of(Event.GRANT_PAUSED)) == 1
    assert "rt-1" not in lines.output.getvalue()


async def test_an_unread_failure_is_an_unknown_outcome(vault: Vault) -> None:
    """No token response has such a status: waiting for a person would help nobody."""
    parts = assemble(vault, answering(unread(status=502, body=b"<html>")))
    await sow(vault, make_seed())
    await run(parts)
    grant = await get(vault)
    assert grant.state is GrantState.PENDING
    assert grant.intent is not None
    assert grant.due_at == NOW


async def test_a_bug_in_the_rules_keeps_the_answer(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble(vault, answering(answered("at-1", "rt-1", scope="a", extras={"url": "x"})))
    await sow(vault, make_seed())
    calls = 0

    def breaks_once(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return transition(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(refresh, "transition", breaks_once)
    await run(parts)
    assert (await get(vault)).reason == Reason.ANSWER_UNREAD
    await restart(vault)
    grant = await get(vault)
    assert holds(vault, grant, "rt-1")
    assert (grant.state, grant.expires_at) == (GrantState.FRESH, NOW + 3600)
    assert [line["outcome"] for line in lines.of(Event.ANSWER_ADOPTED)] == ["apply"]
    assert await vault.kept.of_kind("unreadable") == []


async def test_a_bug_without_an_answer_is_looked_at_again(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble(vault, answering(unread(status=502)))
    await sow(vault, make_seed())

    def breaks(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(refresh, "transition", breaks)
    await run(parts)
    grant = await get(vault)
    assert grant.due_at == NOW + 300
    assert grant.intent is not None


async def test_a_mended_version_reads_the_answer(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(unread()))
    await sow(vault, make_seed())
    await run(parts)
    await restart(vault)
    grant = await get(vault)
    assert holds(vault, grant, "rt-1")
    assert await access_token(vault) == "at-1"
    assert (grant.state, grant.intent, grant.expires_at) == (GrantState.FRESH, None, NOW + 3600)
    assert await vault.kept.of_kind("unreadable") == []
    await restart(vault)
    assert len(lines.of(Event.ANSWER_ADOPTED)) == 1


async def test_what_is_still_not_understood_stays_kept(vault: Vault) -> None:
    parts = assemble(vault, answering(unread(body=b"<html>")))
    await sow(vault, make_seed())
    await run(parts)
    before = await get(vault)
    await restart(vault)
    assert await get(vault) == before
    assert len(await vault.kept.of_kind("unreadable")) == 1


async def test_an_echo_stays_kept(vault: Vault) -> None:
    """A server that repeats what it was sent told of no new refresh token, then as now."""
    parts = assemble(vault, answering(unread(body=b'{"refresh_token": "rt-0"}')))
    await sow(vault, make_seed())
    await run(parts)
    before = await get(vault)
    assert holds(vault, before, "rt-0")
    await restart(vault)
    assert await get(vault) == before
    assert len(await vault.kept.of_kind("unreadable")) == 1


async def test_a_kept_answer_undoes_no_newer_login(vault: Vault, lines: Lines) -> None:
    parts = assemble(vault, answering(unread()))
    await sow(vault, make_seed())
    await run(parts)
    seed = make_seed(refresh_token="rt-imported")
    await at(vault, NOW + 1).apply_seed(seed, 0.5, origin="runtime")
    await restart(vault)
    assert holds(vault, await get(vault), "rt-imported")
    assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-1"]
    assert [line["outcome"] for line in lines.of(Event.ANSWER_ADOPTED)] == ["superseded"]
    assert await vault.kept.of_kind("unreadable") == []


async def test_an_unread_answer_is_rescued_too(tmp_path: Path) -> None:
    """The vault refused it, and the process died."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        claim = await claim_one(vault)
        record = exchange_record(claim, outcome_of(claim, unread()))
        assert record is not None
        await rescue(vault, record())
    async with opened(tmp_path) as vault:
        await restart(vault)
        assert holds(vault, await get(vault), "rt-1")


async def test_a_bug_in_reading_again_is_not_repeated_for_ever(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that could not read an answer cannot read it at its next start either."""
    parts = assemble(vault, answering(unread()))
    await sow(vault, make_seed())
    await run(parts)

    def breaks(*_: object, **__: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(recovery, "classify", breaks)
    await restart(vault)
    assert (await get(vault)).reason == Reason.ANSWER_UNREAD
    assert len(await vault.kept.of_kind("unreadable")) == 1
    assert lines.of(Event.ANSWER_ADOPTED) == []
