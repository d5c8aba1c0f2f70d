"""Many grants: everything is published once, and then Redis is left alone."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from refresher.domain.grants import Publication
from refresher.domain.readable import Page, Shown, Versions
from refresher.logs import Event
from refresher.publication.mirror.worklist import LIMIT
from tests.publication.world import KEYS, Rows, lines_of, logged, mirroring, publication
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

AT_REST = 50
"""Commands a second that Redis may see while nothing happens."""

MEASURED = 5.0
"""Seconds of rest that are measured; a step of the slow walk costs what it may in three."""

OF_THE_WATCHER = ("info", "config")


class ManyRows(Rows):
    """A vault of COUNT grants, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.read_names = self.walked = 0

    async def read(self, names: Sequence[str]) -> list[Publication]:
        self.read_names += len(names)
        return [self._row(int(name.removeprefix("grant-"))) for name in names]

    async def walk(self, after: int, limit: int) -> list[Publication]:
        rows = [self._row(i) for i in range(after + 1, min(after + limit, self.count) + 1)]
        self.walked += len(rows)
        return rows

    async def readable(self, after: Shown, limit: int) -> Page:
        found = await self.walk(after.id, limit)
        self.walked -= len(found)
        return Page(found, Shown(BORN["expires_at"], found[-1].grant.id) if found else None)

    async def versions(self, after: Shown, limit: int) -> Versions:
        page = await self.readable(after, limit)
        return Versions({row.grant.name: row.grant.version for row in page.publications}, page.last)

    def _row(self, number: int) -> Publication:
        return publication(f"grant-{number}", number=number, **BORN)


BORN: dict[str, Any] = {"issued_at": 1.0e9, "since": 1.0e9, "expires_at": 1.0e10, "due_at": 9.0e9}
"""The same at every reading: a vault's rows do not change by being read."""


def commands_of(valkey: Valkey) -> dict[str, int]:
    with valkey.client() as client:
        stats = client.info("commandstats")
    return {
        name: one["calls"]
        for name, one in ((key.removeprefix("cmdstat_"), one) for key, one in stats.items())
        if name not in OF_THE_WATCHER
    }


@pytest.mark.parametrize(
    "count", [12_000, pytest.param(100_000, marks=pytest.mark.long)], ids=["12,000", "100,000"]
)
async def test_many_grants_are_published_once_and_then_rest(valkey: Valkey, count: int) -> None:
    assert count > LIMIT
    rows = ManyRows(count)
    with logged() as lines:
        # The slow walk begins at once: its rate must leave Redis its rest as well.
        async with mirroring(valkey.url, rows, look_after=1.0, sweep_every=0.1) as mirror:
            worklist = mirror._worklist
            most = 0

            def is_done() -> bool:
                nonlocal most
                most = max(most, len(worklist._written), len(worklist._suspects))
                at_rest = not (worklist._written or worklist._suspects)
                return bool(lines_of(lines, Event.MIRROR_REBUILT)) and at_rest

            await eventually(is_done, "the rebuild and the looks", within=500)
            (rebuilt,) = lines_of(lines, Event.MIRROR_REBUILT)
            assert rebuilt["count"] == count
            assert most <= LIMIT + 64, "what is remembered of own writes stays bounded"
            before, read_before = commands_of(valkey), rows.read_names
            began = anyio.current_time()
            await anyio.sleep(MEASURED)
            seconds = anyio.current_time() - began
            after = commands_of(valkey)
        spent = {name: after[name] - before.get(name, 0) for name in after}
        assert sum(spent.values()) / seconds < AT_REST, spent
        assert before["evalsha"] == 3 * count, "the tokens first, then each token and status"
        assert after["evalsha"] == before["evalsha"]
        assert rows.read_names - read_before == 0
        assert len(lines_of(lines, Event.MIRROR_REBUILT)) == 1
        assert lines_of(lines, Event.MIRROR_REPAIRED) == []
    with valkey.client() as client:
        assert client.dbsize() >= 2 * count
        assert client.hget(KEYS.token(f"grant-{count}"), "version") == "1"


async def test_a_rebuild_reads_each_row_once(shared_valkey: Valkey) -> None:
    """Looks at own writes go by their digests, not by the vault."""
    rows = ManyRows(1_000)
    with logged() as lines:
        # A moment is enough to hear of one's own writes, on a machine with time for it.
        async with mirroring(shared_valkey.url, rows, look_after=1.0) as mirror:
            await eventually(
                lambda: lines_of(lines, Event.MIRROR_REBUILT) and not mirror._worklist._written,
                "the rebuild and the looks",
            )
            with shared_valkey.client() as client:
                await eventually(
                    lambda: client.info("commandstats")["cmdstat_hgetall"]["calls"] >= 2_000,
                    "the last of the looks",
                )
    assert rows.walked == 1_000
    assert rows.read_names == 0
