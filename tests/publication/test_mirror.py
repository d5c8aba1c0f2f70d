"""Redis is a mirror: whatever happens to it, every current token comes back (G4)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from redis import Redis

from refresher.domain.grants import GrantState, Publication
from refresher.domain.secret import Secret
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.publication.mirror.worklist import COMMITTED_WITHIN, LIMIT, UNPROVEN, Worklist
from tests.publication.world import (
    CANARY,
    CLOCK,
    KEYS,
    Rows,
    ShiftedClock,
    is_quiet,
    lines_of,
    logged,
    mirroring,
    publication,
    settled,
)
from tests.support.valkey import Valkey
from tests.support.waiting import PATIENCE, eventually

TOKEN, STATUS = KEYS.token("acme"), KEYS.status("acme")


def many(count: int) -> Rows:
    return Rows(*(publication(f"grant-{i}", number=i) for i in range(1, count + 1)))


def version_of(valkey: Valkey, name: str = "acme") -> str | None:
    with valkey.client() as client:
        value: str | None = client.hget(KEYS.token(name), "version")
        return value


def count_of(valkey: Valkey, pattern: str = f"{KEYS.tokens}*") -> int:
    with valkey.client() as client:
        return len(client.keys(pattern))


async def test_everything_is_published_at_start(valkey: Valkey) -> None:
    async with settled(valkey, many(1000)) as (mirror, lines):
        assert mirror.is_connected
        assert mirror.last_error is None
        assert count_of(valkey) == 1000
    (rebuilt,) = lines_of(lines, Event.MIRROR_REBUILT)
    assert rebuilt["count"] == 1000
    assert rebuilt["duration_ms"] > 0
    assert CANARY not in str(lines)


async def test_a_commit_is_published_at_once(shared_valkey: Valkey) -> None:
    rows = Rows(publication(version=1))
    seen: list[tuple[str, int, float]] = []
    on_published = lambda *one: seen.append(one)  # noqa: E731  three arguments into a list
    async with settled(shared_valkey, rows, on_published=on_published) as (mirror, _):
        rows.put(publication(version=2))
        mirror.publish("acme")
        took = await eventually(lambda: seen, "the acknowledged publication")
        assert version_of(shared_valkey) == "2"
    ((name, version, seconds),) = seen
    assert (name, version) == ("acme", 2)
    assert 0 < seconds <= took + 0.01


async def test_our_own_writes_are_no_repairs(shared_valkey: Valkey) -> None:
    rows = many(100)
    async with settled(shared_valkey, rows) as (mirror, lines):
        for version in range(2, 7):
            for i in range(1, 101):
                rows.put(publication(f"grant-{i}", number=i, version=version))
                mirror.publish(f"grant-{i}")
            await mirror._worklist.wait_until_sent()
        with shared_valkey.client() as client:
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            await eventually(lambda: is_quiet(mirror), "the looks at what was written")
            await anyio.sleep(0.05)
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before
        assert lines_of(lines, Event.MIRROR_REPAIRED) == []


async def test_a_flush_is_undone_at_once(valkey: Valkey) -> None:
    async with settled(valkey, many(1000)) as (_, lines):
        with valkey.client() as client:
            client.flushall()
        await eventually(lambda: count_of(valkey) == 1000, "1,000 tokens")
        await eventually(lambda: len(lines_of(lines, Event.MIRROR_REBUILT)) == 2, "the line")
    assert lines_of(lines, Event.MIRROR_REBUILT)[1]["reason"] == "flushed"


CHANGES = {
    "DEL": (["DEL", TOKEN], 0),
    "UNLINK": (["UNLINK", TOKEN], 0),
    "RENAME": (["RENAME", TOKEN, "elsewhere"], 0),
    "DEL of the status": (["DEL", STATUS], 0),
    "early end": (["PEXPIRE", TOKEN, 1], 0),
    "no end": (["PERSIST", TOKEN], 0),
    "later end": (["EXPIRE", TOKEN, 9000], 0),
    "another token": (["HSET", TOKEN, "access_token", "planted"], 0),
    "another field": (["HSET", TOKEN, "field", "planted"], 0),
    "an older version": (["HSET", TOKEN, "version", "1"], 0),
    "another type": (["SET", TOKEN, "planted"], 0),
    "a status made up": (["HSET", STATUS, "state", "expired"], 0),
    "a foreign version": (["HSET", TOKEN, "version", "99", "access_token", "planted"], 1),
    "a foreign revision": (["HSET", STATUS, "revision", "99"], 1),
}


@pytest.mark.parametrize(("command", "foreign"), CHANGES.values(), ids=CHANGES.keys())
async def test_what_others_change_is_repaired_at_once(
    shared_valkey: Valkey, command: list[str], foreign: int
) -> None:
    def state() -> tuple[Any, Any, bool]:
        with shared_valkey.client() as client:
            if client.type(TOKEN) != "hash":
                return None, None, False
            life = client.pttl(TOKEN) / 1000
            return client.hgetall(TOKEN), client.hgetall(STATUS), 590 < life <= 600

    rows = Rows(publication(version=5), publication("other", number=2))
    async with settled(shared_valkey, rows) as (_, lines):
        before = state()
        with shared_valkey.client() as client:
            client.execute_command(*command)
        await eventually(
            lambda: lines_of(lines, Event.MIRROR_REPAIRED) and state() == before, "the repair"
        )
        assert [line["count"] for line in lines_of(lines, Event.MIRROR_REPAIRED)] == [1]
        assert len(lines_of(lines, Event.FOREIGN_OVERWRITTEN)) == foreign


async def test_a_war_over_a_key_stays_cold(shared_valkey: Valkey) -> None:
    rows = Rows(publication(version=5))
    async with settled(shared_valkey, rows, look_after=1.0) as (_, lines):
        with shared_valkey.client() as client, client.pubsub() as war:
            war.subscribe(TOKEN)
            war.get_message(timeout=PATIENCE)
            began = anyio.current_time()
            for _ in range(20):
                client.hset(TOKEN, mapping={"version": "99"})
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        looks = 1 + int(anyio.current_time() - began)
        assert len(lines_of(lines, Event.FOREIGN_OVERWRITTEN)) <= looks, "one a second"
        await eventually(lambda: version_of(shared_valkey) == "5", "the second repair")


async def test_an_end_that_came_is_no_loss(shared_valkey: Valkey) -> None:
    rows = Rows(publication(life=0.3))
    async with settled(shared_valkey, rows) as (_, lines):
        await eventually(lambda: count_of(shared_valkey) == 0, "its end")
        await anyio.sleep(0.05)
        assert lines_of(lines, Event.MIRROR_REPAIRED) == []


async def test_a_killed_server_that_comes_back_empty_is_filled(valkey: Valkey) -> None:
    async with settled(valkey, many(1000)) as (mirror, lines):
        valkey.restart()
        await eventually(lambda: count_of(valkey) == 1000, "1,000 tokens")
        await eventually(lambda: mirror.is_connected, "a connection")
    assert len(lines_of(lines, Event.REDIS_LOST)) == 1
    assert lines_of(lines, Event.REDIS_CONNECTED)[1]["waited_ms"] > 0


async def test_an_outage_is_one_line_however_long(valkey: Valkey) -> None:
    rows = Rows(publication(version=1))
    async with settled(valkey, rows) as (mirror, lines):
        valkey.kill()
        await eventually(lambda: mirror.last_error, "the loss")
        rows.put(publication(version=2))
        mirror.publish("acme")
        await anyio.sleep(0.9)  # several attempts to connect
        assert not mirror.is_connected
        assert mirror.last_error == f"Redis at 127.0.0.1:{valkey.port}: connection refused"
        assert len(lines_of(lines, Event.REDIS_LOST)) == 1
        valkey.start()
        await eventually(lambda: version_of(valkey) == "2", "the publication")


async def test_an_outage_whose_cause_changes_says_so_once(valkey: Valkey) -> None:
    async with settled(valkey, Rows(publication())) as (mirror, lines):
        valkey.restart(["--requirepass", "canary-password"])
        await eventually(lambda: len(lines_of(lines, Event.REDIS_LOST)) == 2, "the second reason")
        await anyio.sleep(1.5)  # another attempt or two
        assert not mirror.is_connected
        with Redis.from_url(valkey.url, password="canary-password") as client:
            client.config_set("requirepass", "")
        await eventually(lambda: mirror.is_connected, "a connection")
    assert [line["reason"].partition(": ")[2] for line in lines_of(lines, Event.REDIS_LOST)] == [
        *("connection lost", "Redis asks for a password and none is configured")
    ]


async def test_redis_may_be_down_at_start(valkey: Valkey) -> None:
    valkey.kill()
    with logged() as lines:
        async with mirroring(valkey.url, Rows(publication())) as mirror:
            await eventually(lambda: mirror.last_error, "the refusal")
            valkey.start()
            await eventually(lambda: version_of(valkey) == "1", "the publication")
            await eventually(lambda: mirror.is_connected, "a connection")
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the rest")
            assert mirror.last_error is None
    assert [line["event"] for line in lines] == [
        *(Event.REDIS_LOST.value, Event.REDIS_CONNECTED.value, Event.MIRROR_REBUILT.value)
    ]


async def test_a_frozen_server_is_noticed_and_returns(valkey: Valkey) -> None:
    rows = Rows(publication(version=1))
    async with settled(valkey, rows) as (mirror, lines):
        valkey.pause()
        await eventually(lambda: not mirror.is_connected, "the loss")
        rows.put(publication(version=2))
        mirror.publish("acme")
        valkey.resume()
        await eventually(lambda: version_of(valkey) == "2", "the publication")
        assert len(lines_of(lines, Event.REDIS_LOST)) == 1


async def test_a_server_that_refuses_writes_is_lost_once(valkey: Valkey) -> None:
    valkey.restart(["--maxmemory", "1kb"])
    with logged() as lines:
        async with mirroring(valkey.url, Rows(publication())) as mirror:
            await eventually(lambda: mirror.last_error, "the refusal")
            await anyio.sleep(0.9)
            assert "out of memory" in str(mirror.last_error)
            with valkey.client() as client:
                client.config_set("maxmemory", 0)
            await eventually(lambda: version_of(valkey) == "1", "the publication")
    assert len(lines_of(lines, Event.REDIS_LOST)) == 1


async def test_a_stepped_clock_is_followed_at_once(shared_valkey: Valkey) -> None:
    clock = ShiftedClock(0)
    row = publication(life=3600)
    async with settled(shared_valkey, Rows(row), clock=clock) as (_, lines):

        def life() -> float:
            with shared_valkey.client() as client:
                return float(client.pttl(TOKEN) / 1000)

        clock._shift = -7200  # how long the token still lives nobody knows but Redis
        with shared_valkey.client() as client:
            client.pexpire(TOKEN, 1_800_000)
        await eventually(lambda: len(lines_of(lines, Event.REDIS_DOUBTED)) == 1, "a look")
        await anyio.sleep(0.1)
        assert 1_790 < life() <= 1_800
        clock._shift = 1_900
        await eventually(lambda: 1_690 < life() <= 1_700, "the end by the clock as it is now")
        assert lines_of(lines, Event.FOREIGN_OVERWRITTEN) == []


async def test_without_tracking_losses_are_found_by_polling(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "daemon", "reset", "on", ">secret", "~*", "&*", "+@all"),
            "-client|tracking",
        )
    who = {"username": "daemon", "password": Secret("secret")}
    rows = Rows(publication(), publication("other", number=2))
    async with settled(valkey, rows, **who) as (_, lines):
        with valkey.client() as client:
            client.delete(TOKEN)
        await eventually(lambda: version_of(valkey) == "1", "the repair")
        await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "its line")


async def test_the_slow_walk_removes_unknown_keys(shared_valkey: Valkey) -> None:
    rows = Rows(publication())
    with shared_valkey.client() as client:
        client.hset(KEYS.token("ghost"), mapping={"access_token": "x", "version": "1"})
        client.hset(KEYS.status("ghost"), mapping={"state": "fresh"})
        client.hset("another:application", "field", "1")
    async with settled(shared_valkey, rows, sweep_every=0.1) as (_, lines):
        await eventually(lambda: count_of(shared_valkey, "*ghost") == 0, "the removal")
        await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "its line")
        assert count_of(shared_valkey, "another:*") == 1
        assert version_of(shared_valkey) == "1"


async def test_the_slow_walk_finds_what_no_notification_told(shared_valkey: Valkey) -> None:
    """SWAPDB is the one change that tracking does not tell."""
    async with settled(shared_valkey, many(30), sweep_every=0.1) as (_, lines):
        with shared_valkey.client() as client:
            client.swapdb(0, 1)
            await eventually(lambda: count_of(shared_valkey) == 30, "30 tokens")
            client.execute_command("SELECT", 1)
            client.flushdb()
        await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "the line")


async def test_a_grant_the_vault_forgot_is_removed(shared_valkey: Valkey) -> None:
    rows = Rows(publication(), publication("other", number=2))
    async with settled(shared_valkey, rows) as (mirror, _):
        rows.forget("other")
        mirror.publish("other")
        await eventually(lambda: count_of(shared_valkey, "*other") == 0, "the removal")


async def test_a_removed_grant_leaves_only_its_status(shared_valkey: Valkey) -> None:
    rows = Rows(publication(version=1))
    async with settled(shared_valkey, rows) as (mirror, _):
        removed = publication(version=1, revision=2, state=GrantState.REMOVED)
        rows.put(replace(removed, access_token=None))
        mirror.publish("acme")
        await eventually(lambda: count_of(shared_valkey) == 0, "the removal")
        with shared_valkey.client() as client:
            await eventually(lambda: client.hget(STATUS, "state") == "removed", "the status")


async def test_a_vault_that_refuses_only_delays(shared_valkey: Valkey) -> None:
    rows = Rows(publication(version=1))
    async with settled(shared_valkey, rows) as (mirror, lines):
        rows.refuses = True
        rows.put(publication(version=2))
        mirror.publish("acme")
        await anyio.sleep(0.05)
        rows.refuses = False
        await eventually(lambda: version_of(shared_valkey) == "2", "the publication")
        assert lines_of(lines, Event.REDIS_LOST) == []


async def test_what_was_committed_is_published_without_the_vault(shared_valkey: Valkey) -> None:
    rows = Rows(publication(version=1))
    async with settled(shared_valkey, rows) as (mirror, _):
        rows.refuses = True
        mirror.publish_committed(publication(version=2))
        await eventually(lambda: version_of(shared_valkey) == "2", "the publication")


async def test_what_came_after_a_commit_is_read(shared_valkey: Valkey) -> None:
    """A removal that is told before the commit was sent takes its token away all the same."""
    rows = Rows(publication(version=1))
    async with settled(shared_valkey, rows) as (mirror, _):
        mirror.publish_committed(publication(version=2))
        removed = publication(version=2, revision=3, state=GrantState.REMOVED)
        rows.put(replace(removed, access_token=None))
        mirror.publish("acme")
        await eventually(lambda: count_of(shared_valkey) == 0, "the removal")
        assert version_of(shared_valkey) is None


def test_what_was_committed_counts_for_a_moment() -> None:
    """Whoever slept must not write back what somebody else has removed meanwhile."""
    clock = [0.0]
    worklist, known = Worklist(lambda: clock[0]), publication()
    worklist.mark("acme", known)
    worklist.take_marked()
    clock[0] = COMMITTED_WITHIN
    assert worklist.take_committed() == [known]
    worklist.mark("acme", known)
    worklist.take_marked()
    clock[0] += COMMITTED_WITHIN + 0.001
    assert worklist.take_committed() == []


def test_what_could_not_be_sent_is_read_again() -> None:
    worklist = Worklist(CLOCK.monotonic)
    worklist.mark("acme", publication())
    worklist.take_marked()
    assert worklist.take_committed()
    worklist.put_back()
    assert worklist.take_marked().keys() == {"acme"}
    assert worklist.take_committed() == []


async def test_drain_sends_what_is_marked_and_ends(shared_valkey: Valkey) -> None:
    rows = many(300)
    async with settled(shared_valkey, rows) as (mirror, _):
        for i in range(1, 301):
            rows.put(publication(f"grant-{i}", number=i, version=2))
            mirror.publish(f"grant-{i}")
        await mirror.drain(5)
        with shared_valkey.client() as client:
            versions = {client.hget(KEYS.token(f"grant-{i}"), "version") for i in range(1, 301)}
        assert versions == {"2"}
        assert not mirror.is_connected
        assert count_of(shared_valkey, KEYS.daemon("*")) == 0


async def test_drain_does_not_wait_for_a_lost_redis(valkey: Valkey) -> None:
    async with settled(valkey, Rows(publication())) as (mirror, _):
        valkey.kill()
        await eventually(lambda: not mirror.is_connected, "the loss")
        mirror.publish("acme")
        with anyio.fail_after(PATIENCE):
            await mirror.drain(10 * PATIENCE)


async def test_the_heartbeat_ends_with_its_daemon(shared_valkey: Valkey) -> None:
    async with settled(shared_valkey, Rows()):
        with shared_valkey.client() as client:
            fields = client.hgetall(KEYS.daemon("one"))
            assert 10 < client.ttl(KEYS.daemon("one")) <= 15
    assert fields.keys() == {"pid", "version", "started_at"}
    assert int(fields["started_at"]) <= CLOCK.now()


def test_a_long_outage_costs_a_fixed_number_of_names() -> None:
    worklist = Worklist(CLOCK.monotonic)
    for i in range(3 * LIMIT):
        worklist.mark(f"grant-{i}")
        worklist.suspect(f"grant-{i}")
    assert len(worklist._marked) <= LIMIT
    assert len(worklist._suspects) <= LIMIT
    assert worklist.rebuild_after == 0, "what was forgotten is published with everything"


class GrowingRows(Rows):
    """Counts how far back it was read, and grows once while the end of it is read."""

    def __init__(self, *publications: Publication) -> None:
        super().__init__(*publications)
        self.walked: list[int] = []
        self.at_the_end: Callable[[], None] | None = None

    async def walk(self, after: int, limit: int) -> list[Publication]:
        self.walked.append(after)
        found = await super().walk(after, limit)
        if not found and self.at_the_end is not None:
            grow, self.at_the_end = self.at_the_end, None
            grow()
        return found


async def test_very_many_new_grants_are_published_behind_the_others(
    shared_valkey: Valkey,
) -> None:
    """Those that were there are not read again, and what comes at the end is not missed."""
    rows = GrowingRows(*(publication(f"old-{i}", number=i) for i in range(1, 201)))
    async with settled(shared_valkey, rows) as (mirror, lines):
        rows.walked.clear()

        def grow(first: int) -> None:
            for i in range(first, first + 100):
                rows.put(publication(f"new-{i}", number=i))
            mirror.publish_behind(first - 1)

        rows.at_the_end = lambda: grow(301)
        grow(201)
        both = lambda: count_of(shared_valkey) == 400  # noqa: E731
        await eventually(both, "what was added, and what was added meanwhile")
        await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT)[1:], "the end")
    rebuilt = lines_of(lines, Event.MIRROR_REBUILT)[-1]
    assert (rebuilt["count"], rebuilt["reason"]) == (200, "added")
    assert min(rows.walked) == 200


def test_what_a_refresh_brought_goes_before_what_was_added() -> None:
    worklist = Worklist(CLOCK.monotonic)
    for i in range(10 * LIMIT):
        worklist.publish_behind(i)
    worklist.mark("acme")
    assert list(worklist.take_marked()) == ["acme"]
    assert worklist.rebuild_after == 0


def test_what_another_daemon_was_faster_to_add_keeps_nothing_from_being_published() -> None:
    worklist = Worklist(CLOCK.monotonic)
    worklist.publish_behind(500)
    worklist.publish_behind(300)
    assert worklist.rebuild_after == 300


def test_a_slow_redis_costs_no_memory_for_tokens() -> None:
    """What was committed long ago is read again when its turn comes."""
    now = [0.0]
    worklist = Worklist(lambda: now[0])
    for i in range(2_000):
        now[0] += COMMITTED_WITHIN / 100
        worklist.mark(f"grant-{i}", publication(f"grant-{i}"))
    assert len(worklist._committed) <= 102
    assert len(worklist._marked) == 2_000


def test_what_was_sent_last_is_recalled_first() -> None:
    now = [0.0]
    worklist = Worklist(lambda: now[0])
    for number in range(3):
        worklist.mark(f"grant-{number}")
        worklist.take_marked()
        worklist.acknowledge()
        now[0] += UNPROVEN / 2 + 1
    worklist.recall()
    assert worklist.take_recalled() == ["grant-2", "grant-1"]
    assert worklist.take_recalled() == []


async def test_what_was_sent_last_is_back_before_the_walk_over_all(valkey: Valkey) -> None:
    """A master that lost its place acknowledged it and dropped it; a walk takes a minute."""

    class Unwalked(Rows):
        is_walked = True

        async def walk(self, after: int, limit: int) -> list[Publication]:
            if not self.is_walked:
                raise VaultUnavailable("too many to walk over")
            return await super().walk(after, limit)

    rows = Unwalked(publication())
    async with settled(valkey, rows) as (mirror, _):
        rows.put(publication(version=2))
        mirror.publish("acme")
        await eventually(lambda: version_of(valkey) == "2", "the second")
        rows.is_walked = False
        valkey.restart()
        await eventually(lambda: version_of(valkey) == "2", "the second again")
