"""How long one exchange may take: a clock that starts when its request leaves.

What comes before (name, connection, proxy, TLS) has a limit of its own in the transport:
failing there is harmless. From the first byte on a refresh token may be spent, and giving
up is the caller's decision (guarantee G3).
"""

import asyncio
from collections.abc import Callable


class Lateness:
    """Tells of answers that are late, all of them after as many seconds: with one timer.

    Nearly every answer is in time, and a timer of its own would cost each.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._waiting: dict[Patience, float] = {}
        """When each is late, in the loop's time and in this order."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, patience: "Patience", now: float) -> None:
        """The request of PATIENCE has left NOW."""
        self._waiting[patience] = now + self._after
        if self._timer is None:
            self._wait_until(now + self._after)

    def end(self, patience: "Patience") -> None:
        """The answer has come, or nobody waits for it."""
        self._waiting.pop(patience, None)

    def _wait_until(self, instant: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(instant, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, now = None, loop.time()
        for patience, at in list(self._waiting.items()):
            if at > now:
                self._wait_until(at)
                return
            del self._waiting[patience]
            loop.call_soon(patience.is_late)  # whatever one of them does is nothing to the next


class Patience:
    """Lets one exchange take ``deadline`` seconds after its request left.

    Args:
        deadline: seconds; counted anew by each request that is sent under it.
        lateness: tells the caller after some seconds, fewer than ``deadline``, that the answer
            is late; None: nobody is told.
        on_late: called then, from the event loop; it may ``give_up``.
    """

    def __init__(
        self,
        deadline: float,
        *,
        lateness: Lateness | None = None,
        on_late: Callable[["Patience"], None] | None = None,
    ) -> None:
        self.deadline = deadline
        self._lateness = None if on_late is None else lateness
        self._on_late = on_late
        self.is_given_up = False
        self._limit: asyncio.Timeout | None = None
        self._left_at = 0.0
        self._is_over = False

    def limit(self) -> asyncio.Timeout:
        """What the transport works in; it expires when patience ends."""
        self._limit = asyncio.timeout(None)
        return self._limit

    def left(self) -> None:
        """The request leaves: the clock starts."""
        is_first, self._left_at = self._left_at == 0.0, asyncio.get_running_loop().time()
        if self._lateness is None:
            self._end_at(self._left_at + self.deadline)
        elif is_first:
            self._lateness.begin(self, self._left_at)

    def over(self) -> None:
        """The exchange has ended, in whatever way: nobody is told that it is late any more."""
        self._limit, self._is_over = None, True
        if self._lateness is not None:
            self._lateness.end(self)

    def give_up(self) -> None:
        """End the exchange now, as if its deadline had come; one that has not begun never is."""
        self.is_given_up = True
        self._end_at(0.0)

    def is_late(self) -> None:
        """The answer has not come yet."""
        if self._is_over:
            return
        self._end_at(self._left_at + self.deadline)
        if self._on_late is not None:
            self._on_late(self)

    def _end_at(self, instant: float) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(instant)
