"""What the tests of sentinels and clusters share: grants that get new tokens all the time."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from refresher.client import TokenReader
from refresher.logs import Event
from refresher.publication.mirror.life import Mirror
from tests.publication.world import KEYS, Rows, lines_of, logged, mirroring, publication
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

PACE = 0.005
"""Seconds from one new token to the next."""


class Work:
    """Gives one grant after the other a newer token, and knows which is the newest of each."""

    def __init__(self, count: int) -> None:
        self.versions = {f"grant-{number}": 1 for number in range(1, count + 1)}
        self.rows = Rows()
        for name in self.versions:
            self._put(name)
        self._goes = anyio.Event()
        self.seen: dict[int, dict[str, int]] = {}
        """The highest versions that were read at each server, by its port."""
        self.regressions = 0

    async def run(self, mirror: Mirror) -> None:
        """Work for ever, unless it rests."""
        while True:
            for name in self.versions:
                await self._goes.wait()
                self.versions[name] += 1
                self._put(name)
                mirror.publish(name)
                await anyio.sleep(PACE)

    def go(self) -> None:
        """Begin, or go on."""
        self._goes.set()

    def rest(self) -> None:
        """Make no more tokens for now."""
        self._goes = anyio.Event()

    async def all_current_at(self, servers: Callable[[], Iterable[Valkey]]) -> None:
        """Return when all of the newest tokens of now are at SERVERS; the work rests then."""
        self.rest()
        await eventually(lambda: not self.behind(servers()), "every current token at the masters")

    def behind(self, servers: Iterable[Valkey]) -> list[str]:
        """Grants whose newest token is at none of SERVERS."""
        found: dict[str, int] = {}
        for server in servers:
            highest = self.seen.setdefault(server.port, {})
            for name, version in versions_at(server).items():
                self.regressions += version < highest.get(name, 0)
                highest[name] = found[name] = version
        return [name for name, version in self.versions.items() if found.get(name) != version]

    def _put(self, name: str) -> None:
        number = int(name.partition("-")[2])
        self.rows.put(publication(name, version=self.versions[name], number=number))


def versions_at(server: Valkey) -> dict[str, int]:
    """The version of each token that SERVER holds."""
    with server.client() as client:
        keys: Any = list(client.scan_iter(f"{KEYS.tokens}*", count=1000))
        versions: Any = [client.execute_command("HGET", key, "version") for key in keys]
    found = zip(keys, versions, strict=True)
    return {key.removeprefix(KEYS.tokens): int(version) for key, version in found if version}


@asynccontextmanager
async def at_work(url: str, count: int) -> AsyncIterator[tuple[Work, list[Any]]]:
    """COUNT grants whose tokens a mirror publishes at URL, and its log."""
    work = Work(count)
    with logged() as lines:
        async with mirroring(url, work.rows) as mirror, anyio.create_task_group() as group:
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the first rebuild")
            group.start_soon(work.run, mirror)
            work.go()
            yield work, lines
            group.cancel_scope.cancel()


@asynccontextmanager
async def consumed(work: Work, url: str, name: str) -> AsyncIterator[list[int | None]]:
    """The versions of the grant NAME that a consumer hears of, who knows URL alone.

    In the end it has heard of the newest.
    """
    reader = TokenReader.from_url(url)
    heard: list[int | None] = []

    async def consume() -> None:
        tokens = reader.watch(name)
        while True:
            token = await anext(tokens)
            heard.append(None if token is None else token.version)

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        yield heard
        await eventually(lambda: heard[-1:] == [work.versions[name]], "the consumer hears")
        group.cancel_scope.cancel()
    await reader.aclose()
