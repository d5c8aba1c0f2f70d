"""The only place that reads wall time, monotonic time and randomness.

Instants everywhere else are unix seconds (``float``, UTC) handed in by the caller;
durations are seconds (``float``). Everything that decides takes ``now`` and a ``draw``
as arguments, so it can be tested without waiting and without luck.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

JUMP = 2.0
"""Seconds wall and elapsed time may differ before it counts as a step."""

READINGS, AT_ONCE = 10, 0.05
"""How often both clocks are read, until it took less than so many seconds."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class SinceBoot:
    """Elapsed time that outlives a process, and a suspended machine (CLOCK_BOOTTIME)."""

    boot: str
    """Names the boot of the machine; seconds of another one compare with nothing."""
    elapsed: float


def elapsed() -> float:
    """Seconds that have passed since some instant, also while this machine was suspended."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except AttributeError:  # not Linux
        return time.monotonic()


class Clock(Protocol):
    """What the engine asks for time and chance."""

    def now(self) -> float:
        """Wall time in unix seconds; decides expiry."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; measures waiting."""

    def since_boot(self) -> SinceBoot | None:
        """Elapsed time to compare with what another process read; None where nobody knows."""

    def draw(self) -> float:
        """A number drawn evenly from [0, 1)."""


class SystemClock:
    """The clock of this machine."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311  jitter, not cryptography

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def since_boot(self) -> SinceBoot | None:
        with suppress(OSError, AttributeError):  # not Linux
            boot = _BOOT_ID.read_text("utf-8").strip()
            return SinceBoot(boot, time.clock_gettime(time.CLOCK_BOOTTIME))
        return None

    def draw(self) -> float:
        return self._random.random()


class Instant(NamedTuple):
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


class WatchedClock:
    """A clock that tells of a step back before anybody has got to know the new time.

    Args:
        set_back: told by how many seconds, a negative number.
    """

    def __init__(self, clock: Clock, set_back: Callable[[float], None]) -> None:
        self._clock = clock
        self.monotonic = clock.monotonic
        self._tell = set_back
        wall, elapsed = Instant.of(clock)
        self._apart = wall - elapsed
        """Wall time less elapsed time, as it was at the last look."""

    def now(self) -> float:
        wall, elapsed = self._clock.now(), self._clock.monotonic()
        if (wall - elapsed) - self._apart < -JUMP:
            wall, elapsed = Instant.of(self._clock)  # with care: a pause between looks the same
        offset = (wall - elapsed) - self._apart
        self._apart = wall - elapsed
        if offset < -JUMP:
            self._tell(offset)
        return wall

    def since_boot(self) -> SinceBoot | None:
        return self._clock.since_boot()

    def draw(self) -> float:
        return self._clock.draw()
