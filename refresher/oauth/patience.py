"""How long one exchange may take: a clock that starts when its request leaves.

What comes before (name, connection, proxy, TLS) has a limit of its own in the transport:
failing there is harmless. From the first byte on a refresh token may be spent, and giving
up is the caller's decision (guarantee G3).
"""

import math

import anyio


class Patience:
    """Lets one exchange take ``deadline`` seconds after its request left.

    Args:
        deadline: seconds; counted anew by each request that is sent under it.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.has_left = anyio.Event()
        """Set when the first byte of the request is about to be written."""
        self._scope = anyio.CancelScope()
        self._is_over = False

    def scope(self) -> anyio.CancelScope:
        """What the transport works in; it is cancelled when patience ends."""
        self._scope = anyio.CancelScope()
        if self._is_over:
            self._scope.cancel()
        return self._scope

    def left(self) -> None:
        """The request leaves: the clock starts."""
        self._scope.deadline = min(anyio.current_time() + self.deadline, math.inf)
        self.has_left.set()

    def give_up(self) -> None:
        """End the exchange now, as if its deadline had come; one that has not begun never is."""
        self._is_over = True
        self._scope.cancel()
