"""Instants on both clocks, and what a step of the wall clock between two of them was."""

from dataclasses import dataclass
from typing import Self

from refresher.clock import Clock

JUMP = 2.0
"""Seconds wall and elapsed time may differ before it counts as a step."""

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
        return cls(clock.now(), clock.monotonic())

    def stepped_since(self, before: "Instant") -> float:
        """Seconds by which the wall clock was set between BEFORE and this; negative: back."""
        return (self.wall - before.wall) - (self.elapsed - before.elapsed)

    def set_back_since(self, before: "Instant") -> float:
        """The same, if it was a step back; else 0: a step ahead may be a suspend."""
        offset = self.stepped_since(before)
        return offset if offset < -JUMP else 0.0
