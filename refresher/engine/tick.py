"""How often the scheduler claims where refreshes come thickly: at a tick, many at once.

A claim of one grant costs as much as that of twenty. Where they come by the dozen a second, the
next one waits for a moment, and whatever has become due meanwhile goes with it. Commits never
wait for anything: an answer that is in memory alone is lost by a kill.
"""

from collections import deque

TICK = 0.015
"""Seconds from one claim to the next: how much later a refresh may be for it."""

FROM_RATE = 50.0
"""Claims a second from which waiting pays."""

LOOKED_AT = 16
"""Claims that tell how thickly they come."""


class Tick:
    """Knows the last claims. Instants are monotonic."""

    def __init__(self) -> None:
        self._claimed: deque[float] = deque(maxlen=LOOKED_AT)

    def claimed(self, count: int, now: float) -> None:
        """COUNT grants were claimed."""
        self._claimed.extend([now] * min(count, LOOKED_AT))

    def pause(self, now: float) -> float:
        """Seconds to wait before the next claim; none where they come seldom."""
        if len(self._claimed) < LOOKED_AT or now - self._claimed[0] > LOOKED_AT / FROM_RATE:
            return 0.0
        return TICK
