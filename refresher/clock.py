"""The only place that reads wall time, monotonic time and randomness.

Instants everywhere else are unix seconds (``float``, UTC) handed in by the caller;
durations are seconds (``float``). Everything that decides takes ``now`` and a ``draw``
as arguments, so it can be tested without waiting and without luck.
"""

import random
import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks for time and chance."""

    def now(self) -> float:
        """Wall time in unix seconds; decides expiry."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; measures waiting."""

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

    def draw(self) -> float:
        return self._random.random()
