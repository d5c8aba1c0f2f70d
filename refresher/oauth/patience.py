"""How long one exchange may take: a clock that starts when its request leaves.

What comes before (name, connection, proxy, TLS) has a limit of its own in the transport:
failing there is harmless. From the first byte on a refresh token may be spent, and giving
up is the caller's decision (guarantee G3).
"""

import asyncio
from collections.abc import Callable

import anyio


class Patience:
    """Lets one exchange take ``deadline`` seconds after its request left.

    Args:
        deadline: seconds; counted anew by each request that is sent under it.
        late_after: seconds after which the caller is told that the answer is late; None: never.
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
        self.has_left = anyio.Event()
        """Set when the first byte of the request is about to be written."""
        self._scope = anyio.CancelScope()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def scope(self) -> anyio.CancelScope:
        """What the transport works in; it is cancelled when patience ends."""
        self._scope = anyio.CancelScope()
        if self._is_over:
            self._scope.cancel()
        return self._scope

    def left(self) -> None:
        """The request leaves: the clock starts."""
        self._scope.deadline = anyio.current_time() + self.deadline
        self.has_left.set()
        if self._on_late is not None and self.late_after is not None and self._timer is None:
            # A timer and not a task: nearly every answer is in time, and this one costs nothing.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.late_after, self._on_late, self)

    def over(self) -> None:
        """The exchange has ended, in whatever way: nobody is told that it is late any more."""
        if self._timer is not None:
            self._timer.cancel()

    def give_up(self) -> None:
        """End the exchange now, as if its deadline had come; one that has not begun never is."""
        self._is_over = True
        self._scope.cancel()
