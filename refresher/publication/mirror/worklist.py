"""What the mirror has yet to do: names only, never more than a fixed number of them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio

from refresher.domain.grants import Publication
from refresher.domain.readable import BEGINNING, Shown
from refresher.publication.mirror.echo import Echo
from refresher.publication.publisher import BATCH

LIMIT = 10_000
"""Names remembered one by one; beyond that everything is published or looked at instead."""

COMMITTED_WITHIN = 1.0
"""Seconds for which a publication may be made from what was committed."""

LOOK_AFTER = 1.0
"""Seconds from the last write of a name to the look at what became of it. What Redis tells
of the name meanwhile waits for that look, so somebody who overwrites every repair, or a
repair that brings nothing, costs one write a second and not a hot loop."""


STILL_GROWS = 1.0
"""Seconds for which an import counts as going on after it has added some."""

UNPROVEN = 30.0
"""Seconds for which an acknowledged token may turn out to be lost with the server that took it.

A master that lost its place acknowledges for up to 12 s, and its death is noticed later.
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A look at a name that we wrote."""

    at: float
    echo: Echo | None
    """What should be there; None if only the vault can tell."""
    is_idle: bool = False
    """There is nothing to look for: Redis forbade the write."""


class Worklist:
    """Names to send, names to look at, and whether everything is to be sent again.

    Args:
        monotonic: seconds that never run backwards.
        look_after: seconds from the last write of a name to the look at it.
    """

    def __init__(self, monotonic: Callable[[], float], look_after: float = LOOK_AFTER) -> None:
        self._monotonic = monotonic
        self._look_after = look_after
        self._wake = anyio.Event()
        self._acknowledged = anyio.Event()
        self._marked: dict[str, float] = {}
        self._committed: dict[str, tuple[float, Publication]] = {}
        """Of marked names: what was committed, and when."""
        self._sending: dict[str, float] = {}
        self._suspects: set[str] = set()
        self._written: dict[str, Due] = {}
        """In the order of their looks: whoever is written again goes to the end."""
        self._unproven: dict[str, float] = {}
        """What was sent a moment ago, and when, the oldest first."""
        self._recalled: list[str] = []
        self.show_after: Shown | None = None
        """How far the readable tokens are back, which a rebuild begins with; None: it is past
        them, or none is running."""
        self.rebuild_after: int | None = None
        """Id of the grant that the running rebuild has come to; None: none is running."""
        self.rebuild_reason = ""
        self.must_walk = False
        """Names were forgotten during a rebuild: all must be looked at once it has ended."""
        self.has_grown = False
        """Grants were added behind all others since the running rebuild last read some."""
        self._grown_at = -math.inf

    @property
    def has_unsent(self) -> bool:
        """Whether a name was marked that is not acknowledged yet."""
        return bool(self._marked or self._sending)

    def wake(self) -> None:
        """End the wait for something to do."""
        self._wake.set()

    def mark(self, name: str, committed: Publication | None = None) -> None:
        """NAME has something new in the vault: COMMITTED, if that is all there is to know."""
        if len(self._marked) >= LIMIT:
            self._marked.clear()
            self._committed.clear()
            self._overflow()
        now = self._monotonic()
        self._marked.setdefault(name, now)
        self._committed.pop(name, None)  # something came after it
        if committed is not None:
            self._committed[name] = now, committed
        self._forget_what_is_too_old(now)
        self.wake()

    def _forget_what_is_too_old(self, now: float) -> None:
        """Hold no more tokens than may be sent as they are, however slow Redis is."""
        while self._committed:
            oldest, (at, _) = next(iter(self._committed.items()))
            if now - at <= COMMITTED_WITHIN:
                return
            del self._committed[oldest]

    def take_marked(self) -> dict[str, float]:
        """The oldest marked names and when each was marked.

        They count as unsent until ``acknowledge``; ``put_back`` marks them again.
        """
        self._sending = {name: self._marked[name] for name in list(self._marked)[:BATCH]}
        for name in self._sending:
            del self._marked[name]
        return self._sending

    def take_committed(self) -> list[Publication]:
        """What was committed a moment ago of the names that were taken: no row need be read.

        Later it is: whoever sleeps must not write back what somebody else has removed.
        """
        since = self._monotonic() - COMMITTED_WITHIN
        found = [self._committed.pop(name, None) for name in self._sending]
        return [one for at, one in filter(None, found) if at >= since]

    def acknowledge(self) -> None:
        """What was taken is acknowledged."""
        now = self._monotonic()
        for name in self._sending:
            self._unproven.pop(name, None)
            self._unproven[name] = now
        while self._unproven:
            oldest, at = next(iter(self._unproven.items()))
            if now - at <= UNPROVEN and len(self._unproven) <= LIMIT:
                break
            del self._unproven[oldest]
        self._sending = {}
        self._acknowledged.set()

    def recall(self) -> None:
        """The server may be another one: what was sent last is what it may not have."""
        self._recalled = list(self._unproven)

    def take_recalled(self) -> list[str]:
        """Some of the names that were sent a moment ago, the last first."""
        taken, self._recalled = self._recalled[: -BATCH - 1 : -1], self._recalled[:-BATCH]
        return taken

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
        """Everything is to be published again: first what can be read, then every grant."""
        self.show_after, self.rebuild_after = Shown(BEGINNING.ends_at), 0
        self.rebuild_reason = reason
        self.must_walk = False
        self._suspects.clear()
        self._written.clear()
        self.wake()

    def publish_behind(self, number: int) -> None:
        """Every grant whose id is above NUMBER is new: behind all that there were before.

        They come after what is sent by name, and however many they are, none is remembered. Where
        several daemons import at once, what was added by another may be published already.
        """
        if self.rebuild_after is None:
            self.rebuild_after, self.rebuild_reason = number, "added"
        self.rebuild_after = min(number, self.rebuild_after)
        self.has_grown, self._grown_at = True, self._monotonic()
        self.wake()

    @property
    def is_growing(self) -> bool:
        """Whether grants were added behind all others a moment ago: more may follow."""
        return self._monotonic() - self._grown_at < STILL_GROWS

    def _overflow(self) -> None:
        """Make up for names that are forgotten; a rebuild under way is never begun again."""
        if self.rebuild_after is None:
            self.rebuild("overflow")
        else:
            self.must_walk = True

    def suspect(self, name: str) -> None:
        """Redis may not show what it should of NAME; if we just wrote it, a look is due anyway.

        As it is of all names while the first tokens of a rebuild come back.
        """
        if self.show_after is not None or name in self._written:
            return
        if len(self._suspects) >= LIMIT:
            self._suspects.clear()
            self._overflow()
        self._suspects.add(name)
        self.wake()

    def take_suspects(self) -> list[str]:
        """Some suspected names."""
        taken = [self._suspects.pop() for _ in range(min(BATCH, len(self._suspects)))]
        return [name for name in taken if name not in self._written]

    def writing(self, names: Iterable[str]) -> None:
        """NAMES are about to be written: what Redis tells of them may come before its answer."""
        for name in names:
            self.wrote(name, None)

    def wrote(self, name: str, echo: Echo | None, *, is_idle: bool = False) -> None:
        """NAME was written, and should be found as ECHO says, unless IS_IDLE."""
        self._written.pop(name, None)
        self._written[name] = Due(self._monotonic() + self._look_after, echo, is_idle)

    def unwritten(self, name: str) -> None:
        """NAME was not written after all."""
        self._written.pop(name, None)

    def take_written(self) -> dict[str, Due]:
        """Names whose look is due, or that are too many to be remembered until it is.

        From now on what Redis tells of them counts again.
        """
        now = self._monotonic()
        taken: dict[str, Due] = {}
        for name, due in self._written.items():
            if due.at > now and len(self._written) - len(taken) <= LIMIT:
                break
            taken[name] = due
            if len(taken) == BATCH:
                break
        for name in taken:
            del self._written[name]
        return taken

    async def wait(self, seconds: float) -> None:
        """Wait for something to do, but only until the next look is due, and SECONDS."""
        if first := next(iter(self._written.values()), None):
            seconds = min(seconds, max(0.0, first.at - self._monotonic()))
        with anyio.move_on_after(seconds):
            await self._wake.wait()
        self._wake = anyio.Event()
