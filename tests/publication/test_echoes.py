"""What we write comes back as a notification: it costs one look, and hides nobody's write."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.grants import GrantState, Publication
from refresher.logs import Event
from refresher.publication import records
from refresher.publication.mirror import worklist as worklist_module
from refresher.publication.mirror.echo import ABSENT, echo_of
from refresher.publication.mirror.life import Mirror
from refresher.publication.mirror.observation import BRIEF, Observed
from refresher.publication.mirror.worklist import LIMIT, Worklist
from refresher.publication.publisher import BATCH
from refresher.publication.records import told_of
from refresher.publication.reports import Outcome, PublishReport
from tests.publication.world import (
    CANARY,
    CLOCK,
    KEYS,
    Rows,
    is_quiet,
    lines_of,
    logged,
    mirroring,
    publication,
    settled,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

TOKEN, STATUS = KEYS.token("acme"), KEYS.status("acme")


class CountedRows(Rows):
    reads = 0

    async def read(self, names: Any) -> list[Publication]:
        self.reads += len(names)
        return await super().read(names)


CHANGES: dict[str, list[str | int]] = {
    "another token": ["HSET", TOKEN, "access_token", "planted"],
    "a field more": ["HSET", TOKEN, "field", "planted"],
    "a field less": ["HDEL", TOKEN, "scope"],
    "its removal": ["DEL", TOKEN],
    "a higher version": ["HSET", TOKEN, "version", 99],
    "no end": ["PERSIST", TOKEN],
    "a later end": ["PEXPIRE", TOKEN, 10_000_000],
    "another type": ["SET", TOKEN, "planted"],
    "another state": ["HSET", STATUS, "state", "expired"],
    "the removal of the status": ["DEL", STATUS],
    "a higher revision": ["HSET", STATUS, "revision", 99],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_foreign_write_beside_ours_is_found(
    shared_valkey: Valkey, change: list[str | int]
) -> None:
    """Both may be told as one: it is the look that tells them apart."""
    rows = Rows(publication(version=1))

    def spoil(*_: object) -> None:
        with shared_valkey.client() as client:
            client.execute_command(*change)

    async with settled(shared_valkey, rows, look_after=0.2, on_published=spoil) as (mirror, lines):
        row = publication(version=2)
        rows.put(row)
        mirror.publish("acme")
        await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "the repair")
        with shared_valkey.client() as client:
            assert client.hgetall(TOKEN) == records.token_fields(row)
            assert client.hgetall(STATUS) == records.status_fields(row)
            assert 590_000 < client.pttl(TOKEN) <= 600_000
        await eventually(lambda: is_quiet(mirror), "rest")
        assert len(lines_of(lines, Event.MIRROR_REPAIRED)) == 1


async def test_our_own_writes_read_no_vault(shared_valkey: Valkey) -> None:
    rows = CountedRows(*(publication(f"grant-{i}", number=i) for i in range(1, 101)))
    async with settled(shared_valkey, rows) as (mirror, lines):
        assert rows.reads == 0
        for i in range(1, 101):
            rows.put(publication(f"grant-{i}", number=i, version=2))
            mirror.publish(f"grant-{i}")
        await eventually(lambda: is_quiet(mirror), "the looks")
        assert rows.reads == 100, "to publish them"
        assert lines_of(lines, Event.MIRROR_REPAIRED) == []


def without(publication: Publication) -> Publication:
    return replace(publication, access_token=None)


KINDS: dict[str, tuple[Callable[[], Publication], bool]] = {
    "a token": (publication, True),
    "a token without an end": (lambda: publication(life=None), True),
    "a token about to end": (lambda: publication(life=BRIEF), False),
    "a removed grant": (lambda: without(publication(state=GrantState.REMOVED)), True),
    "a token that has ended": (lambda: publication(life=-60, state=GrantState.EXPIRED), True),
    "a pending grant": (
        lambda: without(publication(version=0, state=GrantState.PENDING)),
        True,
    ),
}
"""Each kind, and whether the vault need not be asked what became of it."""


@pytest.mark.parametrize(("make", "is_known"), KINDS.values(), ids=KINDS.keys())
async def test_every_kind_of_grant_is_known_again(
    shared_valkey: Valkey, make: Callable[[], Publication], *, is_known: bool
) -> None:
    rows = CountedRows(make())
    async with settled(shared_valkey, rows) as (_, lines):
        assert (rows.reads == 0) == is_known
        assert lines_of(lines, Event.MIRROR_REPAIRED) == []


def test_what_is_not_known_has_no_echo() -> None:
    told = {"acme": told_of(publication(), CLOCK.now())}
    written = {"acme": Outcome.WRITTEN}
    for outcome in (Outcome.REFUSED, Outcome.FORBIDDEN):
        assert echo_of("acme", PublishReport({"acme": outcome}, written, told), 0.0) is None
        assert echo_of("acme", PublishReport(written, {"acme": outcome}, told), 0.0) is None
    late = {"acme": Outcome.LATE}
    assert echo_of("acme", PublishReport(late, written, told), 0.0) is not None
    left = PublishReport(late, written, told, left=frozenset({"acme"}))
    assert echo_of("acme", left, 0.0) is None, "an older token is there"


def test_an_echo_holds_no_secret() -> None:
    row, written = publication(), {"acme": Outcome.WRITTEN}
    report = PublishReport(written, written, {"acme": told_of(row, CLOCK.now())})
    echo = echo_of("acme", report, 0.0)
    assert echo is not None
    assert CANARY not in repr(echo)
    assert ABSENT.is_heard(Observed(token={}, life=0.0, status={}), 0.0)
    assert not ABSENT.is_heard(Observed(token={}, life=0.0, status={"state": "fresh"}), 0.0)


class Seconds:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_told_of_a_written_name_waits_for_its_look() -> None:
    seconds = Seconds()
    worklist = Worklist(seconds, look_after=1.0)
    worklist.writing(["acme"])
    worklist.suspect("acme")
    worklist.wrote("acme", ABSENT)
    worklist.suspect("acme")
    assert not worklist.take_suspects()
    assert not worklist.take_written()
    seconds.now = 0.9
    worklist.wrote("acme", ABSENT)
    seconds.now = 1.8
    assert not worklist.take_written(), "a second after the last write"
    seconds.now = 1.95
    assert [*worklist.take_written()] == ["acme"]
    worklist.suspect("acme")
    assert worklist.take_suspects() == ["acme"], "while it is looked at, it counts again"


def test_what_is_remembered_of_writes_is_bounded() -> None:
    worklist = Worklist(Seconds())
    for i in range(LIMIT + 2 * BATCH):
        worklist.wrote(f"grant-{i}", ABSENT)
    early = [*worklist.take_written(), *worklist.take_written()]
    assert early == [f"grant-{i}" for i in range(2 * BATCH)], "the oldest are looked at early"
    assert not worklist.take_written()


def overflowing(add: Callable[[Worklist, str], None]) -> Worklist:
    worklist = Worklist(CLOCK.monotonic)
    worklist.rebuild("connected")
    worklist.show_after, worklist.rebuild_after = None, 5_000
    for i in range(LIMIT + 1):
        add(worklist, f"grant-{i}")
    return worklist


@pytest.mark.parametrize("add", [Worklist.mark, Worklist.suspect], ids=["marks", "suspects"])
def test_an_overflow_never_restarts_a_rebuild(add: Callable[[Worklist, str], None]) -> None:
    worklist = overflowing(add)
    assert worklist.rebuild_after == 5_000
    assert worklist.must_walk
    worklist.rebuild("flushed")
    assert worklist.rebuild_after == 0, "what was flushed is gone"
    assert not worklist.must_walk


class BusyRows(Rows):
    """Changes many grants that a rebuild has come past already."""

    mirror: Mirror

    async def walk(self, after: int, limit: int) -> list[Publication]:
        rows = await super().walk(after, limit)
        if after == BATCH:
            for i in range(1, 41):
                self.put(publication(f"grant-{i}", number=i, version=2))
                self.mirror.publish(f"grant-{i}")
        return rows


async def test_what_an_overflow_forgot_is_found_after_the_rebuild(
    shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worklist_module, "LIMIT", 8)
    rows = BusyRows(*(publication(f"grant-{i}", number=i) for i in range(1, 201)))
    with logged() as lines, shared_valkey.client() as client:
        async with mirroring(shared_valkey.url, rows) as rows.mirror:
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the rebuild")

            def are_new() -> bool:
                tokens = [KEYS.token(f"grant-{i}") for i in range(1, 41)]
                return {client.hget(token, "version") for token in tokens} == {"2"}

            await eventually(are_new, "what was changed")
            assert len(lines_of(lines, Event.MIRROR_REBUILT)) == 1
