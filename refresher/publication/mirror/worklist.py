"""What the mirror has yet to do: names only, never more than a fixed number of them."""

from collections.abc import Callable

import anyio

from refresher.publication.publisher import BATCH

LIMIT = 10_000
"""Names remembered one by one; beyond that everything is published again instead."""

HOLD = 1.0
"""Seconds between two repairs of one grant: somebody who overwrites every repair, or a
repair that brings nothing, costs one write a second and not a hot loop."""


class Worklist:
    """Names to send, names to look at, and whether everything is to be sent again.

    Args:
        monotonic: seconds that never run backwards.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wake = anyio.Event()
        self._acknowledged = anyio.Event()
        self._marked: dict[str, float] = {}
        self._sending: dict[str, float] = {}
        self._suspects: set[str] = set()
        self._held: dict[str, float] = {}
        self.rebuild_after: int | None = None
        """Id of the grant that the running rebuild has come to; None: none is running."""
        self.rebuild_reason = ""

    @property
    def has_unsent(self) -> bool:
        """Whether a name was marked that is not acknowledged yet."""
        return bool(self._marked or self._sending)

    def wake(self) -> None:
        """End the wait for something to do."""
        self._wake.set()

    def mark(self, name: str) -> None:
        """NAME has something new in the vault."""
        if len(self._marked) >= LIMIT:
            self._marked.clear()
            self.rebuild("overflow")
        self._marked.setdefault(name, self._monotonic())
        self.wake()

    def take_marked(self) -> dict[str, float]:
        """The oldest marked names and when each was marked.

        They count as unsent until ``acknowledge``; ``put_back`` marks them again.
        """
        self._sending = {name: self._marked[name] for name in list(self._marked)[:BATCH]}
        for name in self._sending:
            del self._marked[name]
        return self._sending

    def acknowledge(self) -> None:
        """What was taken is acknowledged."""
        self._sending = {}
        self._acknowledged.set()

    def put_back(self) -> None:
        """What was taken could not be sent."""
        self._marked = self._sending | self._marked
        self._sending = {}

    async def wait_until_sent(self) -> None:
        """Wait until nothing is marked any more."""
        while self.has_unsent:
            self._acknowledged = anyio.Event()
            await self._acknowledged.wait()

    def is_marked(self, name: str) -> bool:
        """Whether NAME will be sent anyway."""
        return name in self._marked

    def rebuild(self, reason: str) -> None:
        """Everything is to be published again, from the first grant on."""
        self.rebuild_after = 0
        self.rebuild_reason = reason
        self._suspects.clear()
        self.wake()

    def suspect(self, name: str) -> None:
        """Redis may not show what it should of NAME."""
        if len(self._suspects) >= LIMIT:
            self.rebuild("overflow")
        else:
            self._suspects.add(name)
            self.wake()

    def take_suspects(self) -> list[str]:
        """Some suspected names that were not repaired within ``HOLD``."""
        now = self._monotonic()
        self._held = {name: until for name, until in self._held.items() if until > now}
        taken = []
        for name in self._suspects:
            if name not in self._held:
                taken.append(name)
                if len(taken) == BATCH:
                    break
        self._suspects.difference_update(taken)
        return taken

    def hold(self, name: str) -> None:
        """NAME was repaired: not again within ``HOLD``."""
        if len(self._held) < LIMIT:
            self._held[name] = self._monotonic() + HOLD

    async def wait(self, seconds: float) -> None:
        """Wait for something to do, but only until held suspects are free, and SECONDS."""
        free_at = [self._held[name] for name in self._suspects if name in self._held]
        if free_at:
            seconds = min(seconds, max(0.0, min(free_at) - self._monotonic()))
        with anyio.move_on_after(seconds):
            await self._wake.wait()
        self._wake = anyio.Event()
