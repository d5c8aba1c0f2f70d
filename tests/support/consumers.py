"""Consumers that read all the time, and judge every token by the server that issued it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.support.sandbox import SandboxThread
from tests.support.waiting import PATIENCE

READ_EVERY = 0.02
"""Seconds between two looks at all grants."""


@dataclass(slots=True)
class Consumers:
    """What one thread found that reads NAMES in turn, whatever Redis does meanwhile."""

    url: str
    server: SandboxThread
    names: Sequence[str]
    reads: int = 0
    newest: dict[str, int] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)
    """Monotonic instants at which the last reads that found a token of each name began."""
    backwards: list[str] = field(default_factory=list)
    """Reads of a version below one that was read before."""
    refused: list[str] = field(default_factory=list)
    """Reads of a token that the server did not accept when the read began (G1)."""
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Read until ``end``."""
        with Redis.from_url(self.url, decode_responses=True, socket_timeout=1) as redis:
            while not self._ended.wait(READ_EVERY):
                for name in self.names:
                    self._read(redis, name)

    def end(self) -> None:
        """Read no more."""
        self._ended.set()

    def _read(self, redis: Redis, name: str) -> None:
        began, looked_at = time.time(), time.monotonic()
        try:
            token: Any = redis.hgetall(f"refresher:token:{name}")
        except (RedisError, OSError):
            return  # a consumer tries again
        if not token:
            return
        self.reads += 1
        version, newest = int(token["version"]), self.newest.get(name, 0)
        if version < newest:
            self.backwards.append(f"{name}: {version} after {newest}")
        self.newest[name] = max(version, newest)
        self.seen_at[name] = looked_at
        families = self.server.sandbox.families
        if self.server.call(families.use, token["access_token"], began) is None:
            self.refused.append(f"{name}: {version} at {began:.3f}")


@contextmanager
def consuming(url: str, server: SandboxThread, names: Sequence[str]) -> Iterator[Consumers]:
    """Consumers of NAMES at the Redis of URL, until the block ends."""
    consumers = Consumers(url, server, names)
    thread = threading.Thread(target=consumers.run, daemon=True)
    thread.start()
    try:
        yield consumers
    finally:
        consumers.end()
        thread.join(timeout=PATIENCE)
    assert not thread.is_alive(), "it still waits for Redis"
