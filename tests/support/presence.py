"""Consumers that look all the time whether tokens are there."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis import Redis

from tests.support.waiting import PATIENCE

LOOK_EVERY = 0.05
"""Seconds between two looks at every token."""


@dataclass(slots=True)
class Presence:
    """How often one looked, and how often each token was not there."""

    looks: int = 0
    absent: dict[str, int] = field(default_factory=dict)

    def look(self, redis: Redis, names: Sequence[str]) -> None:
        """Look once at the tokens of NAMES."""
        with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.exists(f"refresher:token:{name}")
            found = pipeline.execute()
        self.looks += 1
        for name, is_there in zip(names, found, strict=True):
            self.absent[name] = self.absent.get(name, 0) + (not is_there)


@contextmanager
def always_there(url: str, names: Sequence[str]) -> Iterator[Presence]:
    """Look at the tokens of NAMES in the Redis of URL; none may be absent within the block."""
    presence, ended = Presence(), threading.Event()

    def run() -> None:
        with Redis.from_url(url) as redis:
            while not ended.wait(LOOK_EVERY):
                presence.look(redis, names)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started = time.monotonic()
    try:
        yield presence
    finally:
        ended.set()
        thread.join(timeout=PATIENCE)
    took = time.monotonic() - started
    assert presence.looks > 0, f"nobody looked in {took:.1f} s"
    assert not any(presence.absent.values()), (presence.looks, presence.absent)
