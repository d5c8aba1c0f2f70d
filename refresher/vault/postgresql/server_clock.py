"""The clock of the database's server, read here: what a vault that is shared is dated by.

Its replicas may run on machines whose clocks are minutes apart. So each measures how far the
time that passes on its own machine is from the server's clock, and no wall clock of its own
counts. What a reading says is sure to half of its round trip, so the quickest one wins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.clock import Clock, SinceBoot
from refresher.vault.database import Database

READINGS = 5
"""Readings in one measurement."""

KEPT_FOR = 300.0
"""Seconds for which a reading may be the one that counts."""

DRIFT = 1e-4
"""By how much of the time that has passed two clocks may have drifted apart: 100 ppm."""

_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")


@dataclass(frozen=True, slots=True)
class _Reading:
    offset: float
    """What is to be added to the time that has passed here."""
    error: float
    """Seconds by which OFFSET may be wrong."""
    at: float

    def error_at(self, now: float) -> float:
        return self.error + DRIFT * (now - self.at)

    def agrees_with(self, other: "_Reading") -> bool:
        """Whether both can be of one clock that nobody has set."""
        now = max(self.at, other.at)
        return abs(self.offset - other.offset) <= self.error_at(now) + other.error_at(now)


class ServerClock:
    """A clock like any other; it goes on by itself while the server is away.

    Args:
        clock: gives everything but the wall time.
        elapsed: seconds that have passed on this machine, also while it was suspended.
    """

    def __init__(self, clock: Clock, elapsed: Callable[[], float]) -> None:
        self._clock, self._elapsed = clock, elapsed
        self._readings: list[_Reading] = []

    def now(self) -> float:
        elapsed = self._elapsed()
        return elapsed + min(self._readings, key=lambda one: one.error_at(elapsed)).offset

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def since_boot(self) -> SinceBoot | None:
        """Nobody's: the server's clock says nothing of what has passed here."""
        return None

    def draw(self) -> float:
        return self._clock.draw()

    async def measure(self, database: Database) -> None:
        """Read the server's clock again; it has to be read once before anybody asks for the time.

        Raises:
            VaultUnavailable: it cannot be read now.
        """
        self.take(await database.read(self._read))

    def take(self, readings: "list[_Reading]") -> None:
        """Let READINGS count. A server's clock that was set ends what was read before."""
        newest = min(readings, key=lambda one: one.error)
        kept = [
            one
            for one in self._readings
            if newest.at - one.at <= KEPT_FOR and one.agrees_with(newest)
        ]
        self._readings = [*kept, newest]

    def _read(self, connection: Connection) -> "list[_Reading]":
        connection.scalar(_NOW)  # the first one waits for the connection too
        readings = []
        for _ in range(READINGS):
            before = self._elapsed()
            server = connection.scalar(_NOW)
            after = self._elapsed()
            assert server is not None
            middle = (before + after) / 2
            readings.append(_Reading(server - middle, (after - before) / 2, after))
        return readings
