"""How long one exchange may take: a clock that starts when its request leaves.

What comes before (name, connection, proxy, TLS) has a limit of its own in the transport:
failing there is harmless. From the first byte on a refresh token may be spent, and giving
up is the caller's decision (guarantee G3).
"""

import asyncio
from collections.abc import Callable


class Patience:
    """Lets one exchange take ``deadline`` seconds after its request left.

    Args:
        deadline: seconds; counted anew by each request that is sent under it.
        late_after: seconds, fewer than ``deadline``, after which the caller is told that the
            answer is late; None: never.
        on_late: called then, from the event loop; it may ``give_up``.
    """

    def __init__(
        self,
        deadline: float,
        *,
        late_after: float | None = None,
        on_late: Callable[["Patience"], None] | None = None,
    ) -> None:
        self.deadline = deadline
        self.late_after = late_after
        self._on_late = on_late
        self.is_given_up = False
        self._limit: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._left_at = 0.0

    def limit(self) -> asyncio.Timeout:
        """What the transport works in; it expires when patience ends."""
        self._limit = asyncio.timeout(None)
        return self._limit

    def left(self) -> None:
        """The request leaves: the clock starts.

        One timer is enough for both ends: nearly every answer is in time, and each costs.
        """
        loop = asyncio.get_running_loop()
        self._left_at = loop.time()
        if self._on_late is None or self.late_after is None:
            self._end_at(self._left_at + self.deadline)
        elif self._timer is None:
            self._timer = loop.call_later(self.late_after, self._is_late, self._on_late)

    def over(self) -> None:
        """The exchange has ended, in whatever way: nobody is told that it is late any more."""
        self._limit = None
        if self._timer is not None:
            self._timer.cancel()

    def give_up(self) -> None:
        """End the exchange now, as if its deadline had come; one that has not begun never is."""
        self.is_given_up = True
        self._end_at(0.0)

    def _is_late(self, on_late: Callable[["Patience"], None]) -> None:
        self._end_at(self._left_at + self.deadline)
        on_late(self)

    def _end_at(self, instant: float) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(instant)
