"""Counting all grants: right, by index, and beside everything else."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.clock import SystemClock
from refresher.domain.figures import DAY, Due, Ends, Figures
from refresher.errors import VaultUnavailable
from refresher.vault import figures
from refresher.vault.figures import Counting, read_figures
from refresher.vault.vault import Vault
from tests.support.waiting import eventually
from tests.vault.test_damaged_rows import execute
from tests.vault.world import NOW, answered, make_seed, refresh, sow, static_seed

pytestmark = pytest.mark.of_a_file


@pytest.fixture
async def counting(vault: Vault) -> AsyncIterator[Counting]:
    counting = Counting(vault, SystemClock())
    yield counting
    counting.close()


def change(folder: Path, values: str, of: str) -> None:
    execute(folder, f"UPDATE grants SET {values} WHERE {of}")  # noqa: S608  our own


async def figures_at(vault: Vault, now: float) -> Figures:
    return await vault._database.read(lambda connection: read_figures(connection, now, 1))


async def test_every_grant_is_counted_where_it_stands(vault: Vault, tmp_path: Path) -> None:
    await sow(vault, *(make_seed(name, f"rt-{name}", client="crm") for name in "abcde"))
    await sow(vault, static_seed(), make_seed("f", "rt-f"))
    for name, lives in {"a": 200, "b": 2_000, "e": 20_000}.items():
        await refresh(vault, answered(f"at-{name}", expires_in=lives), name=name)
    await vault.remove("f")
    change(tmp_path, "state = 'reauthorization_required'", "name = 'c'")
    change(tmp_path, "state = 'no state'", "name = 'd'")
    change(tmp_path, "client = 'box'", "name = 'e'")
    end = NOW + 3 * DAY
    dies = f"refresh_token_expires_at = {end}"
    change(tmp_path, dies, "name IN ('a', 'c')")
    execute(tmp_path, "INSERT INTO incidents VALUES ('crm', 1, 4)")
    seen = await figures_at(vault, NOW)
    assert seen.grants == {
        ("crm", "fresh"): 2,
        ("crm", "reauthorization_required"): 1,
        ("crm", "damaged"): 1,
        ("box", "fresh"): 1,
        (None, "fresh"): 1,
    }
    assert seen.access_tokens == Ends(NOW + 200, {"5m": 1, "1h": 2, "1d": 3})
    assert seen.refresh_tokens == Ends(end, {"1d": 0, "7d": 1, "14d": 1})
    assert seen.incidents == {"crm": 4}


async def test_what_is_due_counts_until_its_exchange_begins(vault: Vault, tmp_path: Path) -> None:
    await sow(vault, make_seed("a", "rt-a"), make_seed("b", "rt-b"), make_seed("c", "rt-c"))
    change(tmp_path, f"due_at = {NOW - 30}", "name = 'b'")
    change(tmp_path, f"due_at = {NOW + 30}", "name = 'c'")
    change(tmp_path, f"lease_holder = 'x', due_at = {NOW - 60}", "name = 'a'")
    seen = await figures_at(vault, NOW)
    assert seen.due == {"crm": Due(1, NOW - 30)}


async def test_an_empty_vault_has_figures(vault: Vault) -> None:
    seen = await figures_at(vault, NOW)
    assert (seen.grants, seen.due) == ({}, {})
    assert seen.access_tokens == Ends(None, {"5m": 0, "1h": 0, "1d": 0})


async def test_every_count_goes_by_an_index(vault: Vault) -> None:
    """A scan of the table reads every sealed token: a gigabyte of a million grants."""
    statements: list[tuple[str, Any]] = []
    engine = vault._database._reader
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda _, __, text, values, *___: statements.append((text, values)),
    )
    await figures_at(vault, NOW)
    with engine.connect() as connection:
        plans = {
            text: [
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            ]
            for text, values in list(statements)
            if "FROM grants" in text
        }
    assert len(plans) == 7
    for text, plan in plans.items():
        assert any("INDEX" in step for step in plan), (text, plan)
    others = next(plan for text, plan in plans.items() if "state <> 'fresh'" in text)
    assert "ix_grants_listed_by_state" in others[0]
    due = next(plan for text, plan in plans.items() if "lease_holder" in text)
    assert "ix_grants_due_at (due_at<?)" in due[0]


async def test_a_long_count_keeps_neither_scrape_nor_vault_waiting(
    vault: Vault, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever scrapes meanwhile gets the last figures; claims and commits go on."""
    first = await counting.latest()
    assert first is not None
    held, running = threading.Event(), threading.Event()
    read = counting._read

    def slowly(now: float) -> Figures:
        running.set()
        assert held.wait(60)
        return read(now)

    monkeypatch.setattr(counting, "_read", slowly)
    counting._again_at = 0.0
    try:
        assert await counting.latest() is first
        assert running.is_set()
        await sow(vault, make_seed("a", "rt-a"))
        assert await vault.find("a") is not None
    finally:
        held.set()

    async def is_new() -> bool:
        return await counting.latest() is not first

    await eventually(is_new, "the count that was under way is the last one")


async def test_scrapes_in_a_row_count_once(
    vault: Vault, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = list[float]()
    read = counting._read

    def counted(now: float) -> Figures:
        counts.append(now)
        return read(now)

    monkeypatch.setattr(counting, "_read", counted)
    monkeypatch.setattr(figures, "RESTS", 3_600.0)
    first = await asyncio.gather(*(counting.latest() for _ in range(5)))
    assert await counting.latest() is first[0]
    assert len(counts) == 1


async def test_a_vault_that_has_vanished_is_not_made_anew(vault: Vault, counting: Counting) -> None:
    """An empty file in its place would be the vault of the next daemon."""
    vault.files.path.unlink()
    assert await counting.latest() is None
    assert not vault.files.path.exists()


async def test_a_vault_that_cannot_be_counted_leaves_the_last_figures(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await counting.latest()

    def refuses(_: float) -> Figures:
        raise VaultUnavailable("no")

    monkeypatch.setattr(counting, "_read", refuses)
    counting._again_at = 0.0
    assert await counting.latest() is first
    assert first is not None
