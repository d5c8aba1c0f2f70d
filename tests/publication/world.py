"""What the tests of publication share: rows of a vault, waiting, and a mirror that runs."""

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import anyio
import structlog

from refresher.clock import Clock, SystemClock
from refresher.domain.grants import Grant, GrantKind, GrantState, Publication
from refresher.domain.readable import Page, Shown, Versions
from refresher.domain.secret import Secret
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.publication.inbox import Inbox
from refresher.publication.keys import Keys
from refresher.publication.mirror.life import Mirror
from refresher.publication.publisher import Publisher
from refresher.publication.server.connection import Address
from refresher.publication.server.masters import Masters
from refresher.publication.server.opening import open_server
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

KEYS = Keys()
CLOCK = SystemClock()
LOOK_AFTER = 0.05
"""Seconds from a write to the look at it: tests need not wait as long as a daemon."""

RESTING: set[Mirror] = set()
"""Mirrors that wait for something to do."""

CANARY = "canary-access-token"
"""What every access token of these tests begins with; it may be in token keys only."""


def publication(
    name: str = "acme",
    *,
    version: int = 1,
    life: float | None = 600.0,
    number: int = 1,
    **changes: Any,
) -> Publication:
    """A fresh grant whose token lives LIFE seconds; None for a static one without an end."""
    now = CLOCK.now()
    grant = Grant(
        id=number,
        uid=f"uid-{number}",
        name=name,
        kind=GrantKind.STATIC if life is None else GrantKind.REFRESHABLE,
        client="crm",
        origin="runtime",
        state=GrantState.FRESH,
        since=now,
        revision=version,
        version=version,
        issued_at=now,
        expires_at=None if life is None else now + life,
        due_at=None if life is None else now + life * 0.75,
    )
    return Publication(
        grant=replace(grant, **changes), access_token=Secret(f"{CANARY}-{version}"), scope="a b"
    )


class Rows:
    """The vault as the mirror sees it."""

    def __init__(self, *publications: Publication) -> None:
        self._rows = {row.grant.name: row for row in publications}
        self.refuses = False
        self.set_aside: set[str] = set()
        self.newer: dict[str, float] = {}

    def put(self, row: Publication) -> None:
        self._rows[row.grant.name] = row

    def forget(self, name: str) -> None:
        del self._rows[name]

    async def read(self, names: Sequence[str]) -> list[Publication]:
        self._check()
        return [self._rows[name] for name in names if name in self._rows]

    def seen_newer(self, name: str, now: float) -> None:
        self.newer[name] = now

    def may_be_set_aside(self, name: str) -> bool:
        return name in self.set_aside

    async def walk(self, after: int, limit: int) -> list[Publication]:
        self._check()
        rows = sorted(self._rows.values(), key=lambda row: row.grant.id)
        return [row for row in rows if row.grant.id > after][:limit]

    async def readable(self, after: Shown, limit: int) -> Page:
        return self._in_order(after, limit)

    async def versions(self, after: Shown, limit: int) -> Versions:
        page = self._in_order(after, limit)
        return Versions({row.grant.name: row.grant.version for row in page.publications}, page.last)

    def _in_order(self, after: Shown, limit: int) -> Page:
        self._check()

        def place(row: Publication) -> tuple[float, int]:
            ends_at = row.grant.expires_at
            return math.inf if ends_at is None else ends_at, row.grant.id

        begin = math.inf if after.ends_at is None else after.ends_at, after.id
        rows = [row for row in self._rows.values() if row.access_token is not None]
        found = sorted((row for row in rows if place(row) > begin), key=place)[:limit]
        last = found[-1].grant if len(found) == limit else None
        return Page(found, None if last is None else Shown(last.expires_at, last.id))

    def _check(self) -> None:
        if self.refuses:
            raise VaultUnavailable("the vault cannot be read")


class ShiftedClock(SystemClock):
    """A clock that is wrong by some seconds."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self._shift = shift

    def now(self) -> float:
        return super().now() + self._shift


@asynccontextmanager
async def connected(url: str, **parts: Any) -> AsyncIterator[Masters]:
    """The server at URL, closed afterwards."""
    server = open_server(Address(url=url, **parts))
    try:
        yield server
    finally:
        await server.aclose()


@asynccontextmanager
async def publishing(url: str, clock: Clock = CLOCK, **parts: Any) -> AsyncIterator[Publisher]:
    """A publisher for URL that has not connected yet."""
    async with connected(url, **parts) as server:
        yield Publisher(server=server, keys=KEYS, clock=clock)


@asynccontextmanager
async def mirroring(url: str, rows: Rows, **parts: Any) -> AsyncIterator[Mirror]:
    """A mirror of ROWS that runs."""
    clock: Clock = parts.pop("clock", CLOCK)
    credentials = {key: parts.pop(key) for key in ("username", "password") if key in parts}
    async with (
        publishing(url, clock, **credentials) as publisher,
        anyio.create_task_group() as group,
    ):
        parts = {"look_after": LOOK_AFTER} | parts
        inbox = parts.pop("inbox", None) or Inbox(server=publisher.server, keys=KEYS, clock=clock)
        mirror = Mirror(
            publisher=publisher, source=rows, clock=clock, instance="one", inbox=inbox, **parts
        )
        _note_rest(mirror)
        group.start_soon(mirror.run)
        yield mirror
        group.cancel_scope.cancel()


@contextmanager
def logged() -> Iterator[list[Any]]:
    """The lines that are emitted inside, debug ones too, whatever level others have set."""
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        yield lines


def lines_of(lines: list[Any], event: Event) -> list[Any]:
    """Those of one event."""
    return [line for line in lines if line["event"] == event.value]


def is_quiet(mirror: Mirror) -> bool:
    """Whether MIRROR has nothing to do: no name is written, suspected or looked at just now."""
    worklist = mirror._worklist
    is_waiting = mirror in RESTING
    return is_waiting and not (worklist._written or worklist._suspects or worklist.has_unsent)


def _note_rest(mirror: Mirror) -> None:
    """Let ``RESTING`` hold MIRROR while it waits for something to do."""
    wait = mirror._worklist.wait

    async def resting(seconds: float) -> None:
        RESTING.add(mirror)
        try:
            await wait(seconds)
        finally:
            RESTING.discard(mirror)

    setattr(mirror._worklist, "wait", resting)  # noqa: B010  mypy wants no assignment


@asynccontextmanager
async def settled(
    valkey: Valkey, rows: Rows, **parts: Any
) -> AsyncIterator[tuple[Mirror, list[Any]]]:
    """A mirror that has published everything and looked at its own echoes; and its log."""
    with logged() as lines:
        async with mirroring(valkey.url, rows, **parts) as mirror:
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the first rebuild")
            await eventually(lambda: is_quiet(mirror), "the looks at what was written")
            yield mirror, lines
