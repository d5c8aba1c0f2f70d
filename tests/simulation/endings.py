"""What became of an authorization that an operator has ended, by the vault and the server.

``revoke`` must reach the server for everything that was received of it, ``remove`` must
never; and neither may let a late token back into its grant.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from refresher.domain.secret import Secret
from refresher.vault.sealing import Place
from tests.simulation.rows import PARKED, Row
from tests.simulation.server import Line

if TYPE_CHECKING:
    from tests.simulation.world import World


OVERDUE = 120.0
"""Seconds past its turn at which somebody should have asked for a revocation."""


class _Parked(NamedTuple):
    """Tokens that are to be revoked."""

    line: Line
    refresh_token: Secret | None
    access_token: Secret | None


@dataclass
class Endings:
    """Follows every authorization from ``revoke`` to its end at the server."""

    world: "World"
    lines: dict[tuple[str, int], Line] = field(default_factory=dict)
    """By the authorizations that the vault has told apart."""
    ended: set[Line] = field(default_factory=set)
    parked: dict[int, _Parked] = field(default_factory=dict)
    due_at: dict[int, float] = field(default_factory=dict)
    """When what is parked is tried next, by the wall clock."""
    last: int = 0

    def stored(self, row: Row) -> None:
        """ROW holds a refresh token: the one of its authorization."""
        if row.fingerprint is not None:
            line, _ = self.world.server.issued[row.fingerprint]
            self.lines[row.authorization] = line

    def revoked(self, before: Row) -> None:
        """An operator has ended the authorization that BEFORE shows."""
        line = self.lines[before.authorization]
        line.revoked_here = True
        self.ended.add(line)
        self.world.chance.seen["authorizations revoked"] += 1

    def look(self) -> list[_Parked]:
        """Compare what is parked with what was; what is new of it."""
        new, open_ids = [], set[int]()
        rows = self.world.disk.connection.execute(PARKED)
        for number, client, name, uid, serial, due_at, sealed in rows:
            if sealed is not None:
                open_ids.add(number)
                self.due_at[number] = due_at
            if number <= self.last:
                continue
            self.last = number
            line = self.lines.get((uid, serial))
            if line is None or not line.revoked_here:
                self.world.witness.violated(f"revoke: tokens of {name}, not revoked, are to be")
            assert line is not None
            assert sealed is not None
            place = Place(uid, "revocation", (client, name, serial))
            plain = self.world.sealer.keyring.open(sealed, place)
            refresh, access = (None if v is None else Secret(v) for v in json.loads(plain))
            self.parked[number] = _Parked(line, refresh, access)
            new.append(self.parked[number])
        for number in self.parked.keys() - open_ids:
            self._settled(self.parked.pop(number))
        return new

    def _settled(self, parked: _Parked) -> None:
        """Its tokens were forgotten: nothing may be had with them any more."""
        self.world.chance.seen["revocations done"] += 1
        token = parked.refresh_token
        if token is not None and self.world.server.is_alive(token):
            self.world.witness.violated(f"revoke: {parked.line.name} is alive, and forgotten")

    def left_over(self) -> list[str]:
        """Authorizations that live on at the server although everything of them was received.

        One that a clock, set back while nobody looked, has put off waits for its turn.
        """
        now = self.world.now()
        waiting = {parked.line for parked in self.parked.values()}
        alive = [
            line.name
            for line in self.ended - waiting
            if line.family.revoked_at is None and line.durable >= line.family.generation
        ]
        overdue = [number for number in self.parked if self.due_at[number] < now - OVERDUE]
        return alive + [self.parked[number].line.name for number in overdue]
