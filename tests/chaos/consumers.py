"""Consumers that read every token all the time, and what they find."""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import RedisError

from refresher.client import TokenReader
from refresher.sandbox.visitor import Visitor

READ_EVERY = 0.2


@dataclass
class Findings:
    """What the consumers showed."""

    reads: int = 0
    stale: int = 0
    """Reads of a lower version than one read before."""
    refused: Counter[str] = field(default_factory=Counter)
    """How often the resource refused the token from Redis, by grant."""
    gap: float = 0.0
    """Seconds in which a grant could not be read, at the most, since it was last asked."""
    newest: dict[str, int] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)

    @property
    def expired(self) -> int:
        """Tokens from Redis that the resource refused."""
        return self.refused.total()


class Consumers:
    """One for each of NAMES, at one Redis and one resource."""

    def __init__(self, names: list[str], redis_url: str, resource_url: str) -> None:
        self._names, self._redis_url, self._resource_url = names, redis_url, resource_url
        self.findings = Findings()

    def start(self, tasks: TaskGroup) -> None:
        """Read for ever, in TASKS."""
        for name in self._names:
            tasks.start_soon(self._consume, name)

    async def until_healed(self, seconds: float) -> None:
        """Until every grant can be read and used again."""
        reader = TokenReader.from_url(self._redis_url)
        try:
            async with Visitor(self._resource_url) as visitor:
                with anyio.fail_after(seconds):
                    for name in self._names:
                        while not await self._is_usable(reader, visitor, name):  # noqa: ASYNC110  Redis
                            await anyio.sleep(0.1)
        finally:
            await reader.aclose()

    async def _is_usable(self, reader: TokenReader, visitor: Visitor, name: str) -> bool:
        try:
            token = await reader.get(name)
        except (RedisError, OSError):
            return False
        return token is not None and await visitor.is_accepted(token.authorization)

    async def _consume(self, name: str) -> None:
        """Read as a consumer does, for ever, whatever Redis does."""
        async with Visitor(self._resource_url) as visitor:
            while True:
                reader = TokenReader.from_url(self._redis_url)
                try:
                    with suppress(RedisError, OSError):
                        await self._read_on(name, reader, visitor)
                finally:
                    with anyio.CancelScope(shield=True), suppress(RedisError, OSError):
                        await reader.aclose()
                await anyio.sleep(0.1)

    async def _read_on(self, name: str, reader: TokenReader, visitor: Visitor) -> None:
        found = self.findings
        while True:
            asked_at = time.time()
            token = await reader.get(name)
            found.reads += 1
            if token is not None:
                found.stale += token.version < found.newest.get(name, 0)
                found.newest[name] = max(token.version, found.newest.get(name, 0))
                is_accepted = await visitor.is_accepted(token.authorization)
                # One that has ended on its way to the resource was good when it was read.
                has_ended = token.expires_at is not None and (
                    asked_at < token.expires_at <= time.time()
                )
                found.refused[name] += not is_accepted and not has_ended
                now = time.monotonic()
                found.gap = max(found.gap, now - found.seen_at.get(name, now))
                found.seen_at[name] = now
            await anyio.sleep(READ_EVERY)
