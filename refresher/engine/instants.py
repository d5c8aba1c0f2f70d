"""Instants on both clocks, and what a step of the wall clock between two of them was."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from refresher.clock import JUMP, Clock, SinceBoot
from refresher.domain.adoption import Attempt

READINGS, AT_ONCE = 10, 0.05
"""How often both clocks are read, until it took less than so many seconds."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One instant in wall time and in elapsed time, both in seconds."""

    wall: float
    elapsed: float

    @classmethod
    def of(cls, clock: Clock) -> Self:
        """Now; a pause between the two readings would look like a step."""
        for _ in range(READINGS):
            before, wall, after = clock.monotonic(), clock.now(), clock.monotonic()
            if after - before < AT_ONCE:
                return cls(wall, after)
        elapsed = clock.monotonic()  # first: a pause looks like a step ahead, which moves nothing
        return cls(clock.now(), elapsed)

    def stepped_since(self, before: "Instant") -> float:
        """Seconds by which the wall clock was set between BEFORE and this; negative: back."""
        return (self.wall - before.wall) - (self.elapsed - before.elapsed)


def attempt_since(sent: Instant, clock: Clock) -> Attempt:
    """The attempt that was SENT then and has ended now.

    Of a clock that was stepped meanwhile the reading counts that makes a token end earlier.
    """
    ended = Instant.of(clock)
    sent_at = min(sent.wall, ended.wall - (ended.elapsed - sent.elapsed))
    return Attempt(sent_at=sent_at, ended_at=ended.wall, draw=clock.draw())


class WatchedClock:
    """A clock that tells of a step back before anybody has got to know the new time.

    Args:
        set_back: told by how many seconds, a negative number.
    """

    def __init__(self, clock: Clock, set_back: Callable[[float], None]) -> None:
        self._clock = clock
        self._tell = set_back
        self._last = Instant.of(clock)

    def now(self) -> float:
        wall, elapsed = self._clock.now(), self._clock.monotonic()
        now = Instant(wall, elapsed)
        if now.stepped_since(self._last) < -JUMP:
            now = Instant.of(self._clock)  # with care: a pause between the two looks the same
        offset = now.stepped_since(self._last)
        self._last = now
        if offset < -JUMP:
            self._tell(offset)
        return now.wall

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def since_boot(self) -> SinceBoot | None:
        return self._clock.since_boot()

    def draw(self) -> float:
        return self._clock.draw()
