"""Which part of what a provider allows is that of one replica among several. Pure.

The parts of all replicas together are exactly the whole, whoever of them has a place left over.
A replica that gets none leaves that client's grants to the others. Quotas of a day need no
share: a grant is refreshed as often by three replicas as by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True, slots=True)
class Share:
    """One of so many living replicas."""

    replicas: int = 1
    place: int | None = 0
    """Which of them in an order that all agree on; None: the others do not know of it yet."""

    def of(self, gate: str, concurrency: int, rate: float | None) -> tuple[int, float | None]:
        """What this replica may do of CONCURRENCY exchanges at once and RATE a second.

        As many replicas take part as whole places and whole exchanges a second can be given to:
        each may begin one at any time, and all of those at once must not be too many.

        Args:
            gate: whom the limits are of; it decides who gets what cannot be divided.
        """
        if self.place is None:
            return 0, rate
        whole = concurrency if rate is None else min(concurrency, max(int(rate), 1))
        parts = min(self.replicas, whole)
        place = (self.place + crc32(gate.encode())) % self.replicas
        if place >= parts:
            return 0, rate
        places = concurrency // parts + (place < concurrency % parts)
        return places, None if rate is None else rate / parts

    def own_first(self, numbers: Sequence[int]) -> list[int]:
        """NUMBERS of grants with those first of which no other replica thinks so.

        Replicas that begin with the same ones get in each other's way: each is claimed once, and
        has been looked for by all. Whoever has none of its own left takes those of the others.
        """
        return sorted(numbers, key=lambda number: number % self.replicas != self.place)


WHOLE = Share()


def whole() -> Share:
    """Of a daemon that has its vault for itself."""
    return WHOLE
