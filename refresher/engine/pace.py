"""How fast exchanges may begin: the configured rate, and what throttling taught.

A server that answers 429 has told how much it takes: what it took since the last time,
over the time until it wants to be asked again. Keeping to that, and growing slowly from
there, replaces a refusal every few seconds by one now and then.
"""

import math
from dataclasses import dataclass

GROWTH = 0.02
"""Share by which a learned pace grows in a second that is used to the full."""

ENOUGH = 5
"""Exchanges taken that make a measurement; fewer say nothing about a pace."""

SLOWER = 0.5
"""What is left of a learned pace when it was refused before it could be measured again."""

SLOWEST = 0.1
"""Exchanges a second below which no pace is learned: the breaker waits by itself."""

REMEMBERED = 600.0
"""Seconds without a refusal after which a learned pace is forgotten."""

QUIET = 1.0
"""Seconds of idleness that begin a new measurement: what was idle taught nothing."""


@dataclass(slots=True)
class Pace:
    """Exchanges that may begin: at most one second's worth at once. Instants are monotonic."""

    learned: float | None = None
    """Exchanges a second that the server was seen to take; None until it throttles."""
    _allowance: float = 1.0
    _counted_at: float = -math.inf
    _answered: int = 0
    """Exchanges the server took since ``_measured_from``."""
    _measured_from: float = 0.0
    _last_answer: float = 0.0
    _throttled_until: float = 0.0

    def allows(self, now: float, rate: float | None) -> int | None:
        """How many exchanges may begin now; None when nothing limits them."""
        if self.learned is not None and now - self._throttled_until > REMEMBERED:
            self.learned = None
        limit = self._limit(rate)
        if limit is None:
            self._allowance, self._counted_at = 1.0, now
            return None
        elapsed = max(now - self._counted_at, 0.0)
        self._allowance = min(max(limit, 1.0), self._allowance + elapsed * limit)
        self._counted_at = now
        return int(self._allowance)

    def seconds_to_next(self, rate: float | None) -> float | None:
        """Seconds from the last look until one more may begin; None when one may now."""
        limit = self._limit(rate)
        if limit is None or self._allowance >= 1:
            return None
        return (1 - self._allowance) / limit

    def begun(self, now: float, *, alone: bool) -> None:
        """An exchange begins; ALONE when no other was under way."""
        if alone and now - max(self._last_answer, self._throttled_until) > QUIET:
            self._measured_from, self._answered = now, 0
        self._allowance -= 1

    def taken(self, now: float) -> None:
        """The server did what it was asked."""
        self._answered += 1
        self._last_answer = now
        if self.learned is not None:
            self.learned *= 1 + GROWTH / max(self.learned, 1.0)

    def throttled(self, now: float, wait: float) -> None:
        """The server refused, and may be asked again in WAIT seconds."""
        if now < self._throttled_until:
            return  # another one of the same crowd
        self._throttled_until = now + wait
        self._last_answer = now
        self._allowance, self._counted_at = 1.0, self._throttled_until
        span = self._throttled_until - self._measured_from
        if self._answered >= ENOUGH and span > 0:
            self.learned = max(self._answered / span, SLOWEST)
        elif self.learned is not None:
            self.learned = max(self.learned * SLOWER, SLOWEST)
        else:
            return  # the measurement goes on
        self._measured_from, self._answered = self._throttled_until, 0

    def _limit(self, rate: float | None) -> float | None:
        limits = [limit for limit in (rate, self.learned) if limit is not None]
        return min(limits, default=None)
