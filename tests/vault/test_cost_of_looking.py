"""A look each second costs what the clock changed, and not what there is.

Counted in instructions of SQLite's virtual machine, which no load of the machine changes.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.domain import schedule
from refresher.domain.grants import Fault, GrantKind
from refresher.domain.renewal import Terms
from refresher.domain.seeds import Seed
from refresher.engine.recovery import recover
from refresher.vault import candidates
from refresher.vault.candidates import AHEAD, of_room
from refresher.vault.hastening import PAGE
from refresher.vault.queries import IN_ONE_PASS
from refresher.vault.rows import Transaction
from refresher.vault.vault import Vault
from tests.vault.world import (
    CRM,
    LIFE,
    NOT_SENT,
    NOW,
    answered,
    at,
    claim_one,
    get,
    make_seed,
    opened,
    refresh,
    rooms,
    sow,
)

pytestmark = pytest.mark.of_a_file

FEW, MANY = 100, 2_000

LOOK = 450
"""Instructions that a look at nothing new may take."""

START = 2_000
"""Instructions that a start may take before anything is sent, with one exchange left open."""


@dataclass
class Counted:
    """What one block of statements cost."""

    instructions: int = 0
    statements: list[str] = field(default_factory=list)


@contextmanager
def counting(vault: Vault) -> Iterator[Counted]:
    """Count what VAULT does on both of its connections."""
    counted = Counted()
    raw: list[sqlite3.Connection] = []

    def step() -> int:
        counted.instructions += 1
        return 0

    def note(_: object, __: object, statement: str, *___: object) -> None:
        counted.statements.append(statement)

    for engine in (vault._database._reader, vault._database._writer):
        with engine.connect() as connection:
            connection.rollback()
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            raw.append(driver)
        sa.event.listen(engine, "before_cursor_execute", note)
    for driver in raw:
        driver.set_progress_handler(step, 1)
    try:
        yield counted
    finally:
        for driver in raw:
            driver.set_progress_handler(None, 1)
        for engine in (vault._database._reader, vault._database._writer):
            sa.event.remove(engine, "before_cursor_execute", note)


def multiply(vault: Vault, name: str, times: int, change: str = "") -> None:
    """TIMES copies of the row NAME, some columns set by CHANGE: ``due_at = due_at + n``."""
    with vault._database._writer.begin() as connection:
        names = [
            row[1]
            for row in connection.exec_driver_sql("PRAGMA table_info(grants)")
            if row[1] != "id"
        ]
        values = {column: column for column in names}
        values |= {"name": "name || '-' || n", "uid": "uid || n"}
        values |= dict(part.split(" = ") for part in change.split(", ") if part)
        connection.exec_driver_sql(
            f"WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted "  # noqa: S608
            f"WHERE n < {times}) INSERT INTO grants ({', '.join(names)}) "
            f"SELECT {', '.join(values[column] for column in names)} FROM grants, counted "
            f"WHERE name = '{name}'"
        )


async def look(vault: Vault, now: float) -> list[str]:
    """What the watch and whoever revokes ask each second; the names that were moved."""
    moved = []
    while passed := await at(vault, now).time_passed():
        moved += [after.name for _, after in passed]
    assert await at(vault, now).incidents_over() == []
    assert await vault.revocations.waiting() == {}
    assert await vault.overdue(NOW - 120) == []
    return moved


@pytest.fixture(params=[FEW, MANY])
async def crowd(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Vault, int]]:
    """A vault with many fresh grants that live an hour, and as many that fail, and end soon."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed("fresh", "rt-1"), make_seed("failing", "rt-2"))
        for name in ("fresh", "failing"):
            await refresh(vault, answered(f"at-{name}", expires_in=LIFE), name=name)
        await at(vault, NOW + LIFE - 400).request_refresh("failing")
        await refresh(vault, NOT_SENT, NOW + LIFE - 400, name="failing")
        multiply(vault, "fresh", request.param, "expires_at = expires_at + 1000 + n")
        multiply(vault, "failing", request.param)
        yield vault, request.param


async def test_nothing_new_costs_the_same_whatever_there_is(crowd: tuple[Vault, int]) -> None:
    vault, _ = crowd
    await look(vault, NOW + LIFE - 301)
    with counting(vault) as counted:
        assert await look(vault, NOW + LIFE - 301) == []
    assert counted.instructions < LOOK
    assert not [one for one in counted.statements if "UPDATE" in one or "IMMEDIATE" in one]


async def test_what_changes_costs_what_changes(crowd: tuple[Vault, int]) -> None:
    """All that fail degrade in one look, however many passes it takes, and cost nothing then."""
    vault, there = crowd
    assert len(await look(vault, NOW + LIFE - 299)) == there + 1
    with counting(vault) as counted:
        assert await look(vault, NOW + LIFE - 298) == []
    assert counted.instructions < LOOK
    moved = await look(vault, NOW + LIFE + 500)
    assert len(moved) == there + 2  # the failing and one fresh have ended
    with counting(vault) as counted:
        await look(vault, NOW + LIFE + 501)
    assert counted.instructions < LOOK


async def test_a_start_costs_what_was_left_open(crowd: tuple[Vault, int]) -> None:
    """A new process looks at what its predecessor worked on, and at nothing else."""
    vault, _ = crowd
    await at(vault, NOW + LIFE - 300).request_refresh("fresh")
    await claim_one(vault, NOW + LIFE - 300, "fresh")
    await at(vault, NOW + LIFE - 299).prove_writable()
    with counting(vault) as counted:
        await recover(at(vault, NOW + LIFE - 298), {"crm": CRM}, vault.clock)
    assert counted.instructions < START
    assert not await vault.is_out(await get(vault, "fresh"))


@pytest.mark.parametrize(
    "lifetime", [20.0, 119.0, 120.0, 121.0, 299.0, 300.0, 301.0, 2999.0, 3000.0, 3001.0, 86_400.0]
)
async def test_the_index_knows_the_window(vault: Vault, lifetime: float) -> None:
    """What the schedule calls the mandatory window stands a second time, in SQL."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", expires_in=lifetime))
    await at(vault, NOW).request_refresh("acme")
    await refresh(vault, NOT_SENT)
    degrades_at = NOW + lifetime - schedule.mandatory_window(lifetime)
    assert await at(vault, degrades_at - 0.01).time_passed() == []
    assert len(await at(vault, degrades_at + 0.01).time_passed()) == 1


@pytest.mark.long
async def test_a_look_at_fifty_thousand_grants(tmp_path: Path) -> None:
    """Prints the figures; `pytest -s -m long` of this file."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed("fresh", "rt-1"))
        await refresh(vault, answered("at", expires_in=300.0), name="fresh")
        multiply(vault, "fresh", 50_000, "expires_at = expires_at + 100 + n / 1000.0")
        with counting(vault) as counted:
            await look(vault, NOW + 1)
        before = time.process_time()
        for _ in range(100):
            await look(vault, NOW + 1)
        each = (time.process_time() - before) / 100
        print(  # noqa: T201  it is the point
            f"\n50,000 five-minute tokens: {counted.instructions} instructions of SQLite in "
            f"{len(counted.statements)} statements, {1000 * each:.2f} ms of CPU a look"
        )
        assert counted.instructions < LOOK


async def test_a_claim_among_many_due_costs_what_one_among_few_does(tmp_path: Path) -> None:
    """What is due is put in order once for very many claims."""
    cost: dict[int, int] = {}
    for there in (2 * AHEAD, 10 * AHEAD):
        (tmp_path / str(there)).mkdir()
        async with opened(tmp_path / str(there)) as vault:
            await sow(vault, make_seed("one", "rt-1"))
            await refresh(vault, answered("at"), name="one")
            multiply(vault, "one", there, "expires_at = expires_at + n")
            [room] = rooms(crm=8)
            found = partial(of_room, room=room, only=None, ahead=vault._ahead)
            await at(vault, NOW + 5 * LIFE)._read(found)
            with counting(vault) as counted:
                assert len(await vault._read(found)) == 8
            cost[there] = counted.instructions
    few, many = cost.values()
    assert many < 1.2 * few


@pytest.mark.parametrize("there", [FEW, MANY])
async def test_what_failed_is_hastened_in_pages(tmp_path: Path, there: int) -> None:
    """Each transaction looks at a page, whatever there is, and the soonest to end comes first."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed("failing", "rt-1"), make_seed("fresh", "rt-2"))
        await refresh(vault, answered("at"), name="fresh")
        is_late = f"fault = '{Fault.ENDPOINT}', due_at = {NOW + LIFE}"
        execute(vault, f"UPDATE grants SET {is_late} WHERE name = 'failing'")  # noqa: S608  our own
        multiply(vault, "fresh", MANY)
        multiply(
            vault, "failing", there, f"expires_at = nullif({NOW + LIFE} - n % 211,{NOW + LIFE})"
        )
        costs: list[int] = []
        write = vault.hastening._write

        async def counted(operation: Callable[[Transaction], Any]) -> Any:
            with counting(vault) as cost:
                done = await write(operation)
            costs.append(cost.instructions)
            return done

        vault.hastening._write = counted  # it only counts
        await at(vault, NOW + 1).hastening.after_outage(["crm"], 0.001)
        assert len(costs) == (there + 1) // PAGE + 1
        assert max(costs) < 45_000
        with vault._database._reader.connect() as connection:
            order = "SELECT due_at, expires_at FROM grants WHERE fault IS NOT NULL ORDER BY due_at"
            rows = connection.exec_driver_sql(order).all()
    assert [round(due - NOW - 1, 3) for due, _ in rows] == [n / 1000 for n in range(there + 1)]
    ends = [end or 0.0 for _, end in rows]
    assert ends == sorted(ends)


async def test_very_many_due_are_read_in_their_order_and_not_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read ahead costs as much as is read: half of all is due, in an order of its own."""
    monkeypatch.setattr(candidates, "MANY", FEW)
    monkeypatch.setattr(candidates, "AHEAD", FEW // 2)
    [room] = rooms(crm=8)
    cost: dict[int, int] = {}
    for there in (4 * FEW, 40 * FEW):
        (tmp_path / str(there)).mkdir()
        async with opened(tmp_path / str(there)) as vault:
            await sow(vault, make_seed("one", "rt-1"))
            await refresh(vault, answered("at"), name="one")
            late = f"expires_at = expires_at - n % 97, due_at = due_at + n % 2 * {10 * LIFE}"
            multiply(vault, "one", there, late)
            found = partial(of_room, room=room, only=None, ahead=vault._ahead)
            now = at(vault, NOW + LIFE)
            await now._read(found)
            vault._ahead.forget()
            with counting(vault) as counted:
                first = [each.id for each in await now._read(found)]
            cost[there] = counted.instructions
            with vault._database._reader.connect() as connection:
                ends = connection.exec_driver_sql(
                    "SELECT id, expires_at FROM grants WHERE due_at < ? ORDER BY 2", (NOW + LIFE,)
                )
                ends_at = {row[0]: row[1] for row in ends}
            assert [ends_at[number] for number in first] == sorted(ends_at.values())[:8]
    few, many = cost.values()
    assert many < 1.2 * few


async def test_states_are_counted_as_they_change(tmp_path: Path) -> None:
    for there in (FEW, MANY):
        (tmp_path / str(there)).mkdir()
        async with opened(tmp_path / str(there)) as vault:
            await sow(vault, make_seed("one", "rt-1"), make_seed("two", "rt-2"))
            await refresh(vault, answered("at"), name="one")
            multiply(vault, "one", there)
            await vault.remove("two")
            await at(vault, NOW + LIFE).time_passed()
            execute(vault, "UPDATE grants SET state = 'canary' WHERE name = 'one'")
            with counting(vault) as counted:
                counts = await vault.counts()
            assert counted.instructions < LOOK
            expired = min(there + 1, IN_ONE_PASS)
            fresh = {"fresh": there + 1 - expired} if there >= expired else {}
            assert counts == {"removed": 1, "expired": expired - 1, "damaged": 1, **fresh}


def execute(vault: Vault, statement: str) -> None:
    with vault._database._writer.begin() as connection:
        connection.exec_driver_sql(statement)


async def test_exchanges_that_wait_for_nothing_cost_a_look_nothing(vault: Vault) -> None:
    seed = Seed(name="x", kind=GrantKind.EXCHANGE, client="crm", terms=Terms(subject="acme"))
    await sow(vault, make_seed(), seed)
    await refresh(vault, answered("at-1", "rt-1"))
    await refresh(vault, answered("at-x"), NOW, "x")
    multiply(vault, "x", MANY)
    with counting(vault) as counted:
        assert await at(vault, NOW + 1).time_passed() == []
    assert counted.instructions < LOOK
