"""What can be read is back first after a flush, soonest end first; the rest follows."""

from collections.abc import Sequence

import anyio
import pytest

from refresher.domain.grants import Publication
from refresher.domain.readable import Page, Shown
from refresher.logs import Event
from refresher.publication import records
from refresher.publication.mirror import showing
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    lines_of,
    logged,
    mirroring,
    publication,
    settled,
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
    monkeypatch.setattr(showing, "SHOWN", 7)
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
    monkeypatch.setattr(showing, "SHOWN", 7)

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


class AskedRows(ShownRows):
    """Rows that also remember which of them were read by name."""

    def __init__(self, *publications: Publication) -> None:
        super().__init__(*publications)
        self.read_by_name: list[str] = []

    async def read(self, names: Sequence[str]) -> list[Publication]:
        self.read_by_name += names
        return await super().read(names)


async def test_a_redis_that_lost_little_is_given_that_and_nothing_else(
    shared_valkey: Valkey,
) -> None:
    """A daemon is started again: it sends what is missing, older or changed, and no more."""
    before = ending_backwards()
    async with settled(shared_valkey, Rows(*before)):
        pass
    rows = AskedRows(*before)
    rows.put(publication("g7", version=2, number=7))
    rows.put(publication("g8", number=8, life=None))
    with shared_valkey.client() as client:
        client.delete(KEYS.token("g9"))
        client.delete(KEYS.token("g10"))
        client.set(KEYS.token("g10"), "no hash")
        client.delete(KEYS.status("g11"))
        client.hset(KEYS.status("g12"), "state", "degraded")
        client.hset(KEYS.token("g13"), "access_token", "somebody's")
        client.config_resetstat()
        async with settled(shared_valkey, rows) as (_, lines):
            # What is read again are those seven, once or twice.
            assert set(rows.read_by_name) == {f"g{n}" for n in range(7, 14)}
            assert rows.shown == [], "Redis has nearly all of them"
            (rebuilt,) = lines_of(lines, Event.MIRROR_REBUILT)
            assert rebuilt["count"] == COUNT + 2
            sent = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert sent < COUNT, "what Redis shows as it should is not sent"
            for n in range(7, 14):
                row = (await rows.read([f"g{n}"]))[0]
                token, status = client.hgetall(KEYS.token(f"g{n}")), KEYS.status(f"g{n}")
                assert token == records.token_fields(row), n
                assert client.hgetall(status) == records.status_fields(row), n
            assert client.pttl(KEYS.token("g8")) == -1
