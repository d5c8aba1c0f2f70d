"""From the wire to the disk: a vault that hangs, fails or is damaged costs no answer."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from refresher.domain.grants import GrantState
from refresher.domain.outcomes import Outcome
from refresher.engine import durability
from refresher.engine.recovery import readmit
from refresher.engine.watch import ASIDE_EVERY, Watch
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault import database
from refresher.vault.vault import Vault
from tests.engine.world import (
    Call,
    Endpoint,
    Lines,
    Parts,
    answering,
    assemble,
    claim,
    scheduling,
)
from tests.support.waiting import eventually
from tests.vault.world import (
    CRM,
    NOW,
    access_token,
    answered,
    at,
    clock_of,
    get,
    holds,
    make_seed,
    opened,
    orphans,
    rooms,
    set_writable,
    sow,
)


@contextmanager
def hanging_commits(vault: Vault, *, fail: bool = False) -> Iterator[threading.Event]:
    """Every commit hangs, as in an fsync, until the block ends; then it may FAIL."""
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: sa.Connection) -> None:
        hangs.set()
        goes_on.wait(300)
        if fail:
            raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError("I/O error"))

    engine = vault._database._writer
    sa.event.listen(engine, "commit", hang)
    try:
        yield hangs
    finally:
        sa.event.remove(engine, "commit", hang)
        goes_on.set()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in production takes a fraction of one here."""
    monkeypatch.setattr(durability, "RESCUED_AFTER", 0.05)


async def answer_in_hand(vault: Vault) -> Parts:
    """An engine whose next refresh brings ``rt-1``."""
    await sow(vault, make_seed())
    return assemble(vault, answering(answered("at-1", "rt-1")))


@pytest.mark.parametrize("fail", [False, True], ids=["and succeeds", "and fails"])
async def test_a_commit_that_hangs_has_its_answer_rescued(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch, *, fail: bool
) -> None:
    parts = await answer_in_hand(vault)
    claimed = await claim(parts)
    monkeypatch.setattr(database, "HANGS_AFTER", 0.5)
    async with anyio.create_task_group() as tasks:
        with hanging_commits(vault, fail=fail):
            tasks.start_soon(parts.refresh.run, claimed, CRM)
            await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
            await eventually(lambda: vault.outage.is_on, "the outage")
            assert parts.durability.at_risk == 0
            assert parts.published == []
    assert parts.published == ["acme"]
    assert holds(vault, await get(vault), "rt-1")
    told = lines.events()
    told.remove("answer.rescued")  # the disk of the tests may take its time over it
    assert told == ["vault.refused", "vault.recovered", "exchange.succeeded"]
    await eventually(lambda: len(vault.rescued._file._free) == 9, "the slot is free again")
    assert await orphans(vault) == []


async def test_the_loop_turns_while_the_rescue_file_hangs_too(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, real = threading.Event(), os.fdatasync

    def hang(descriptor: int) -> None:
        goes_on.wait(300)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", hang)
    parts = await answer_in_hand(vault)
    claimed = await claim(parts)
    async with anyio.create_task_group() as tasks:
        with hanging_commits(vault):
            tasks.start_soon(parts.refresh.run, claimed, CRM)
            await eventually(lambda: parts.durability.at_risk == 0, "the rescue")
            await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the line")
        await eventually(lambda: parts.published, "the publication")
    goes_on.set()
    assert lines.of(Event.ANSWER_RESCUED)[0]["outcome"] == "rescued, not synced"


async def test_a_record_that_cannot_be_made_holds_up_no_other(vault: Vault, lines: Lines) -> None:
    """One timer looks for all that has not been written: a bug with one costs one."""
    parts = await answer_in_hand(vault)
    grant, goes_on = await get(vault), anyio.Event()

    def broken() -> bytes:
        raise KeyError("canary")

    async with anyio.create_task_group() as tasks:
        for record in (broken, lambda: b"{}"):
            tasks.start_soon(
                lambda record: parts.durability.until_written(
                    goes_on.wait, grant=grant, record=record
                ),
                record,
            )
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue of the other")
        goes_on.set()
    told = lines.of(Event.TASK_RESTARTED)[0]
    assert (told["task"], told["error"], told["grant"]) == ("rescue", "KeyError", "acme")


async def test_a_quick_commit_needs_no_rescue(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "RESCUED_AFTER", 30.0)
    parts = await answer_in_hand(vault)
    await parts.refresh.run(await claim(parts), CRM)
    assert lines.events() == ["exchange.succeeded"]


async def test_what_is_at_risk_is_known(vault: Vault) -> None:
    """From the send to the rescue, and no longer."""
    seen: list[int] = []

    async def script(_: Call) -> Outcome:
        seen.append(parts.durability.at_risk)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    while vault.rescued.put(b"no room is left", lambda _: None).slot is not None:
        pass
    claimed = await claim(parts)
    assert parts.durability.at_risk == 0
    async with anyio.create_task_group() as tasks:
        with hanging_commits(vault) as hangs:
            tasks.start_soon(parts.refresh.run, claimed, CRM)
            await eventually(hangs.is_set, "the commit")
            await anyio.sleep(0.1)
            assert parts.durability.at_risk == 1
    assert seen == [1]
    assert parts.durability.at_risk == 0


async def test_a_process_ends_although_the_disk_hangs(tmp_path: Path, lines: Lines) -> None:
    """What is in the rescue file is the next one's."""
    async with opened(tmp_path) as vault:
        parts = await answer_in_hand(vault)
        claimed = await claim(parts)
        with hanging_commits(vault):
            async with anyio.create_task_group() as tasks:

                async def run() -> None:
                    with pytest.raises(VaultUnavailable):
                        await parts.refresh.run(claimed, CRM)

                tasks.start_soon(run)
                await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
                parts.durability.abandon()
                vault.abandon()
            assert parts.published == []
            with pytest.raises(VaultUnavailable):
                await vault.find("acme")
            with pytest.raises(VaultUnavailable):
                await vault.prove_writable()
    async with opened(tmp_path) as vault:
        assert len(vault.rescued.left) == 1


async def test_one_outage_is_told_once(vault: Vault, lines: Lines) -> None:
    """The scheduler meets it, and an answer does; it is over when both have seen its end."""
    release = anyio.Event()

    async def script(_: Call) -> Outcome:
        await release.wait()
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed("a"))
    # Not due yet: else the scheduler may claim it before the vault refuses.
    await sow(vault, make_seed("b", refresh_token="rt-b"), now=NOW + 60)
    at(vault, NOW)
    async with scheduling(parts) as scheduler:
        await eventually(lambda: parts.endpoint.calls, "the send")
        set_writable(vault, writable=False)
        parts.clock.move(60)
        scheduler.wake()
        await eventually(lambda: vault.outage.is_on, "the refusal")
        release.set()
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
        set_writable(vault, writable=True)
        await eventually(lambda: not vault.outage.is_on, "the recovery")
        await eventually(lambda: len(parts.published) == 2, "the publications")
    told = [event for event in lines.events() if event.startswith("vault.")]
    assert told == ["vault.refused", "vault.recovered"]


async def test_a_bug_in_the_commit_leaves_the_answer_in_the_rescue_file(
    tmp_path: Path, lines: Lines
) -> None:
    async with opened(tmp_path) as vault:
        parts = await answer_in_hand(vault)

        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        claimed = await claim(parts)
        vault.commit = broken  # type: ignore[method-assign, assignment]  # the bug
        with pytest.raises(ZeroDivisionError):
            await parts.refresh.run(claimed, CRM)
        await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
    async with opened(tmp_path) as vault:
        assert len(vault.rescued.left) == 1


def change_behind(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "vault.db", isolation_level=None)) as other:
        other.execute(statement)


@pytest.mark.parametrize("brings", ["tokens", "nothing"])
async def test_a_row_damaged_in_mid_exchange_holds_up_nobody(
    vault: Vault, lines: Lines, tmp_path: Path, brings: str
) -> None:
    """Its answer waits in the rescue file, and enters the row once that is mended."""

    async def script(call: Call) -> Outcome:
        if call.secret == "rt-0":
            change_behind(tmp_path, "UPDATE grants SET requested_at = 'x' WHERE name = 'acme'")
            if brings == "nothing":
                raise ZeroDivisionError
        return answered(f"at-{call.secret}", f"{call.secret}-next")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    async with scheduling(parts, workers=1):
        await eventually(lambda: parts.published, "the other one")
        await eventually(lambda: lines.of(Event.GRANT_SET_ASIDE), "the damaged one")
    assert parts.published == ["other"]
    assert len(lines.of(Event.GRANT_SET_ASIDE)) == 1
    clock = clock_of(vault)

    async def take_up(names: Sequence[str]) -> None:
        await readmit(vault, {"crm": CRM}, clock, names)

    watch = Watch(
        vault=vault,
        publish=parts.published.append,
        readmit=take_up,
        wake=lambda: None,
        held_back=tuple,
        clock=clock,
    )
    await watch._look(NOW)
    assert (parts.published, len(vault.rescued.left)) == (["other"], int(brings == "tokens"))
    change_behind(tmp_path, "UPDATE grants SET requested_at = NULL WHERE name = 'acme'")
    clock.move(ASIDE_EVERY)
    await watch._look(NOW)
    assert parts.published == ["other", "acme"]
    assert vault.rescued.left == {}
    grant = await get(vault)
    if brings == "tokens":
        assert await access_token(vault) == "at-rt-0"
        assert (grant.state, grant.intent) == (GrantState.FRESH, None)
    else:
        assert grant.intent is not None
        assert [line["grant"] for line in lines.of(Event.EXCHANGE_RESUMED)] == ["acme"]
    claims = await at(vault, NOW + 10_000).claim(rooms(crm=2), 2)
    assert len(claims) == 2  # neither is leased any more


async def test_a_record_waits_for_its_damaged_row(tmp_path: Path, lines: Lines) -> None:
    """A process that finds both begins, and throws nothing away."""
    async with opened(tmp_path) as vault:
        parts = await answer_in_hand(vault)
        claimed = await claim(parts)
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with pytest.raises(VaultUnavailable):
                    await parts.refresh.run(claimed, CRM)

            set_writable(vault, writable=False)
            tasks.start_soon(run)
            await eventually(lambda: lines.of(Event.ANSWER_RESCUED), "the rescue")
            parts.durability.abandon()
    change_behind(tmp_path, "UPDATE grants SET labels = '' WHERE name = 'acme'")
    for _ in range(2):
        async with opened(tmp_path) as vault:
            await readmit(vault, {"crm": CRM}, vault.clock, ["acme"])
            assert len(vault.rescued.left) == 1
    change_behind(tmp_path, "UPDATE grants SET labels = '{}' WHERE name = 'acme'")
    async with opened(tmp_path) as vault:
        await readmit(vault, {"crm": CRM}, vault.clock, ["acme"])
        assert holds(vault, await get(vault), "rt-1")
        assert vault.rescued.left == {}
