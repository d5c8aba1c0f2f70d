"""How far Redis' clock is from ours, so that a late write cannot outlive its token."""

import math
from dataclasses import dataclass

from refresher.clock import Clock
from refresher.publication.server.connection import Server
from refresher.publication.server.masters import Masters

SAMPLES = 3
"""Readings of which the one with the shortest round trip counts."""


@dataclass(frozen=True, slots=True)
class Offset:
    """Seconds Redis' clock is ahead of ours, and by how much that may be wrong."""

    seconds: float
    uncertainty: float

    def sent_at(self, now: float) -> int:
        """NOW on Redis' clock in milliseconds, never later than it truly was.

        Too early only shortens a token's life in Redis; too late would prolong it (G1).
        """
        return math.floor((now + self.seconds - self.uncertainty) * 1000)


STEP = 0.5
"""Seconds by which wall and elapsed time may part before it counts as a step."""


class Steps:
    """Notices that our own wall clock was stepped, or leapt ahead while we slept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = clock.now() - clock.monotonic()

    def was_stepped(self) -> bool:
        """Whether it was since the last look."""
        before, self._ahead = self._ahead, self._clock.now() - self._clock.monotonic()
        return abs(self._ahead - before) > STEP


async def measure_all(server: Masters, clock: Clock) -> dict[Server, Offset]:
    """How far the clock of each master is from ours.

    Raises:
        PublicationUnavailable: when one cannot be read.
    """
    return {master: await measure(master, clock) for master in server.masters}


async def measure(server: Server, clock: Clock) -> Offset:
    """Read Redis' clock, halving the round trip.

    Raises:
        PublicationUnavailable: when it cannot be read.
    """
    best: Offset | None = None
    for _ in range(SAMPLES):
        before = clock.now()
        seconds, microseconds = await server.execute("TIME")
        after = clock.now()
        there = int(seconds) + int(microseconds) / 1_000_000
        sample = Offset(there - (before + after) / 2, abs(after - before) / 2)
        if best is None or sample.uncertainty < best.uncertainty:
            best = sample
    assert best is not None
    return best
