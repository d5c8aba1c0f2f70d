"""Nobody's failure takes another grant's turn (G8), counted in seconds that somebody worked."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refresher.domain.grants import Fault, GrantState
from tests.simulation.rows import Row
from tests.simulation.server import KINDS

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

SHARE = 0.3
"""Of a token's life that a healthy grant waits for its turn at the most. A client that two
grants have accused rests for seconds, and its next probe is the healthy one that is due."""

LONGEST_LOOK = 2.0
"""Seconds between two visits to the disk for which a process counts as working, at pace 1."""


@dataclass
class Turns:
    """Looks at the clients on whose wire nothing happens, where only grants trouble each other."""

    world: "World"
    worked: float = 0.0
    """Seconds in which a process served and the disk took what it wrote."""
    last_look: float = 0.0
    due_since: dict[str, float] = field(default_factory=dict)
    """By grant that waits for its turn, in seconds worked."""

    def look(self, process: "Process") -> None:
        """PROCESS visited the disk."""
        now = self.world.time()
        is_reached = not self.world.is_disk_out and not process.is_cut_off
        if process.is_running and process.is_serving and is_reached:
            self.worked += min(now - self.last_look, LONGEST_LOOK * self.world.pace)
        self.last_look = now

    def sent(self, name: str) -> None:
        """NAME had its turn."""
        self.due_since.pop(name, None)

    def check(self, rows: dict[str, Row]) -> None:
        """A healthy grant that was due, and got no turn, must not expire by it."""
        wall, server = self.world.now(), self.world.server
        for row in rows.values():
            kind = KINDS.get(row.client or "")
            if kind is None or not kind.is_quiet:
                continue
            is_waiting = (
                row.state in {GrantState.FRESH, GrantState.DEGRADED, GrantState.EXPIRED}
                and row.fault != Fault.GRANT
                and row.refused_at is None
                and row.lease_holder is None
                and row.due_at is not None
                and row.due_at <= wall
                and row.client not in server.moods.to_clients
                and row.name not in server.moods.to_grants
            )
            if not is_waiting:
                self.due_since.pop(row.name, None)
                continue
            waits = self.worked - self.due_since.setdefault(row.name, self.worked)
            if row.state == GrantState.EXPIRED and waits > SHARE * kind.lifetime * server.pace:
                self.world.witness.violated(
                    f"G8: {row.name} expired, due for {waits:.0f} s without a turn"
                )
