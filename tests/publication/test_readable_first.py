"""What can be read is back first after a flush, soonest end first; the rest follows."""

from collections.abc import Sequence

import anyio
import pytest

from refresher.domain.grants import Publication
from refresher.domain.readable import Page, Shown
from refresher.logs import Event
from refresher.publication.mirror import reconciler
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    lines_of,
    logged,
    mirroring,
    publication,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

COUNT = 40


class ShownRows(Rows):
    """Remembers in which order its readable tokens were taken, and can hold back the walk."""

    def __init__(self, *publications: Publication) -> None:
        super().__init__(*publications)
        self.shown: list[str] = []
        self.may_walk = anyio.Event()
        self.may_walk.set()

    async def readable(self, after: Shown, limit: int) -> Page:
        page = await super().readable(after, limit)
        self.shown += [row.grant.name for row in page.publications]
        return page

    async def walk(self, after: int, limit: int) -> list[Publication]:
        await self.may_walk.wait()
        return await super().walk(after, limit)


def ending_backwards() -> Sequence[Publication]:
    """Grants of which the last one made ends first; two are not readable, one never ends."""
    rows = [publication(f"g{n}", number=n, life=3_600.0 - n) for n in range(1, COUNT + 1)]
    over = publication("over", number=COUNT + 1, expires_at=CLOCK.now() - 5)
    return [*rows, over, publication("for-ever", number=COUNT + 2, life=None)]


async def test_tokens_are_back_before_statuses_and_the_soonest_to_end_first(
    shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "SHOWN", 7)
    rows = ShownRows(*ending_backwards())
    with logged() as lines, shared_valkey.client() as client:
        async with mirroring(shared_valkey.url, rows) as mirror:
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the first rebuild")
            rows.shown.clear()
            rows.may_walk = anyio.Event()
            client.flushall()
            names = [f"g{n}" for n in range(COUNT, 0, -1)]
            keys = [KEYS.token(name) for name in (*names, "for-ever")]
            await eventually(lambda: client.exists(*keys) == len(keys), "all tokens are back")
            assert rows.shown == [*names, "for-ever"]
            assert client.keys(KEYS.statuses + "*") == []
            assert not client.exists(KEYS.token("over"))
            assert mirror._worklist._suspects == set(), "a look at what is written again anyway"
            rows.may_walk.set()
            await eventually(lambda: len(lines_of(lines, Event.MIRROR_REBUILT)) == 2, "the rest")
            assert len(client.keys(KEYS.statuses + "*")) == COUNT + 2
            assert 0 < client.pttl(KEYS.token("g1")) <= 3_600_000
            assert client.pttl(KEYS.token("for-ever")) == -1


async def test_a_flush_in_the_middle_begins_again(
    shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "SHOWN", 7)

    class Flushed(ShownRows):
        """Is flushed once, after its first page was written."""

        is_flushed = False

        async def readable(self, after: Shown, limit: int) -> Page:
            if self.shown and not self.is_flushed:
                self.is_flushed = True
                with shared_valkey.client() as client:
                    await eventually(lambda: client.exists(KEYS.token(f"g{COUNT}")), "a page")
                    client.flushall()
                await eventually(lambda: mirror._worklist.rebuild_reason == "flushed", "heard")
            return await super().readable(after, limit)

    rows = Flushed(*ending_backwards())
    with logged() as lines, shared_valkey.client() as client:
        async with mirroring(shared_valkey.url, rows) as mirror:
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the rebuild")
            names = [f"g{n}" for n in range(1, COUNT + 1)]
            assert client.exists(*map(KEYS.token, names)) == COUNT
            assert rows.shown.count(f"g{COUNT}") == 2
            assert lines_of(lines, Event.MIRROR_REBUILT)[0]["reason"] == "flushed"


async def test_what_is_newer_in_redis_is_left_to_the_walk(shared_valkey: Valkey) -> None:
    """The first pass overwrites nothing: an older token never takes the place of a newer one."""
    rows = ShownRows(publication("acme", version=5))
    rows.may_walk = anyio.Event()
    with shared_valkey.client() as client:
        client.hset(KEYS.token("acme"), mapping={"version": "9", "access_token": "newer"})
        async with mirroring(shared_valkey.url, rows) as mirror:
            await eventually(lambda: mirror._worklist.show_after is None, "the first pass")
            assert client.hget(KEYS.token("acme"), "version") == "9"
            rows.may_walk.set()
            await eventually(lambda: client.hget(KEYS.token("acme"), "version") == "5", "mended")
