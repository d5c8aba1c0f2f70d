"""The only place that reads wall time, monotonic time and randomness.

Instants everywhere else are unix seconds (``float``, UTC) handed in by the caller;
durations are seconds (``float``). Everything that decides takes ``now`` and a ``draw``
as arguments, so it can be tested without waiting and without luck.
"""

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

JUMP = 2.0
"""Seconds wall and elapsed time may differ before it counts as a step."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class SinceBoot:
    """Elapsed time that outlives a process, and a suspended machine (CLOCK_BOOTTIME)."""

    boot: str
    """Names the boot of the machine; seconds of another one compare with nothing."""
    elapsed: float


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

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def since_boot(self) -> SinceBoot | None:
        with suppress(OSError, AttributeError):  # not Linux
            boot = _BOOT_ID.read_text("utf-8").strip()
            return SinceBoot(boot, time.clock_gettime(time.CLOCK_BOOTTIME))
        return None

    def draw(self) -> float:
        return self._random.random()
