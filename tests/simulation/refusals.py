"""Doubted before dead, and dead once (G6), by the refusals that came over the wire.

Time is counted as the engine must: a wall clock set back takes nothing away from a doubt,
and one set ahead cannot be told from a machine that slept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refresher.domain.grants import GrantState
from refresher.domain.outcomes import GrantRejected
from refresher.domain.quirks import RotationProfile
from refresher.domain.reasons import Reason
from tests.simulation.network import Request
from tests.simulation.rows import Row
from tests.simulation.server import DOUBT_FOR, Line

if TYPE_CHECKING:
    from tests.simulation.world import World

DOUBTED_AT_LEAST = 1_800.0
ASKED_AFTER = (120.0, 600.0, 1_800.0)
"""Seconds after the first refusal before which no question may come: the promise, not the code."""

ASKED_EVERY = 3_600.0
SLACK = 10.0
"""Seconds by which small steps of a clock may shift what was planned."""


@dataclass(eq=False)
class _Doubt:
    """One refresh token that is refused."""

    first_at: float
    began: float
    """By the world's own time."""
    asked: int = 1
    last_at: float = 0.0
    needs_person: bool = False
    is_hastened: bool = False
    """A person, or the settling of a word about the client, has asked out of turn."""


@dataclass
class Refusals:
    """Judges every refusal, and every loss that follows from one."""

    world: "World"
    doubts: dict[bytes, _Doubt] = field(default_factory=dict)
    dead: set[bytes] = field(default_factory=set)
    """Fingerprints of finally rejected refresh tokens."""
    ordered: dict[str, str | None] = field(default_factory=dict)
    orders: list[str | None] = field(default_factory=list)
    """Orders under way, by client; None means all."""
    """Lost grants that an operator asks for once more, with the reason they were lost for."""
    served_at: dict[str, dict[str, float]] = field(default_factory=dict)
    """By client and grant."""

    def now(self) -> float:
        return self.world.time() + self.world.stepped_ahead

    def served(self, row: Row) -> None:
        """A grant has tokens: whatever was said of its refresh token is over."""
        if row.client is not None:
            self.served_at.setdefault(row.client, {})[row.name] = self.now()
        if row.fingerprint is not None:
            self.doubts.pop(row.fingerprint, None)
            self.dead.discard(row.fingerprint)
        self.ordered.pop(row.name, None)

    def hastened(self, row: Row) -> None:
        """Somebody may have a doubted grant asked for before its turn."""
        if row.fingerprint in self.doubts:
            self.doubts[row.fingerprint].is_hastened = True

    def clock_set_back(self) -> None:
        """What was due by the old clock may lie further ahead than any wait, and is due at once."""
        for doubt in self.doubts.values():
            doubt.is_hastened = True

    @contextmanager
    def order(self, client: str | None, rows: dict[str, Row]) -> Iterator[None]:
        """An operator asks for what was lost of CLIENT, or of all.

        What is lost by a commit that the vault takes right before the order is meant as well.
        """
        for row in rows.values():
            if (
                row.state == GrantState.REAUTHORIZATION_REQUIRED
                and row.fingerprint is not None
                and client in {None, row.client}
            ):
                self.ordered.setdefault(row.name, row.reason)
                self.hastened(row)
        self.orders.append(client)
        try:
            yield
        finally:
            self.orders.remove(client)

    def heard(self, request: Request, fingerprint: bytes, outcome: GrantRejected) -> None:
        """A refusal came; it must not be a question too many."""
        now, doubt = self.now(), self.doubts.get(fingerprint)
        if doubt is None:
            doubt = self.doubts[fingerprint] = _Doubt(now, self.world.time(), last_at=now)
            doubt.needs_person = outcome.needs_person
            return
        earliest = doubt.last_at + ASKED_EVERY
        if doubt.asked <= len(ASKED_AFTER):
            earliest = doubt.first_at + ASKED_AFTER[doubt.asked - 1]
        line, _ = self.world.server.issued[fingerprint]
        # Whoever died before it wrote down what it heard has to ask once more.
        is_known = self.world.witness.rows[request.name].refusals >= doubt.asked
        is_known &= not self.world.witness.was_taken_from(request.process, request.name)
        is_free = doubt.is_hastened or not line.served or request.process.is_stale or not is_known
        if now < earliest - SLACK and not is_free:
            self.world.witness.violated(
                f"G6: {request.name} was asked for {now - doubt.first_at:.0f} s after its first "
                f"refusal, the {doubt.asked}. time"
            )
        doubt.asked, doubt.last_at, doubt.is_hastened = doubt.asked + 1, now, False
        doubt.needs_person = doubt.needs_person or outcome.needs_person
        self.world.chance.seen["asked again"] += 1

    def may_send(self, name: str, fingerprint: bytes) -> None:
        """A finally rejected refresh token is sent on an operator's word alone."""
        if fingerprint in self.dead and name not in self.ordered:
            self.world.witness.violated(f"G6: {name} sent a finally rejected refresh token again")

    def check(self, row: Row) -> None:
        """A doubt is told, and only an order makes a lost grant due."""
        if row.refused_at is not None and row.state == GrantState.FRESH:
            self.world.witness.violated(f"G6: {row.name} is doubted and told to be fresh")
        if row.state != GrantState.REAUTHORIZATION_REQUIRED:
            return
        if row.due_at is not None and {None, row.client} & {*self.orders}:
            self.ordered.setdefault(row.name, row.reason)
        if row.due_at is not None and row.name not in self.ordered:
            self.world.witness.violated(f"I3: {row.name} needs a person and is due")
        if row.due_at is None and row.lease_holder is None and row.name in self.ordered:
            reason = self.ordered.pop(row.name)
            if row.reason != reason and row.word != Reason.REVOKED_HERE:
                self.world.witness.violated(
                    f"G6: {row.name} was lost as {reason}, now {row.reason}"
                )

    def lost(self, before: Row, row: Row, *, is_open: bool) -> None:
        """A loss must be one that the profile allows, and must be called by its name."""
        assert row.fingerprint is not None
        assert row.client is not None
        line, _ = self.world.server.issued[row.fingerprint]
        self.dead.add(row.fingerprint)
        doubt = self.doubts.pop(row.fingerprint, None)
        is_lost = row.word == Reason.ROTATION_LOST
        if doubt is None:
            self.world.witness.violated(f"G6: {row.name} was lost and never refused")
            return
        rotates = self.world.clients[row.client].quirks.rotation.profile is not RotationProfile.NONE
        if rotates and is_open and not is_lost:
            self.world.witness.violated(f"G3: {row.name} lost after an open exchange: {row.reason}")
        if is_lost and (before.intent_attempts or 0) < 2:
            self.world.witness.violated(f"G3: {row.name}: no open exchange explains {row.reason}")
        if not is_lost and row.word != Reason.REVOKED:
            self.world.witness.violated(f"G3: {row.name} was lost as {row.reason}")
        is_final = is_lost or doubt.needs_person or not line.served
        if not is_final and not self._is_settled(row, doubt):
            self.world.witness.violated(f"G6: {row.name} was lost before its doubt was settled")
        is_dreamt = self.world.time() - doubt.began < DOUBTED_AT_LEAST - SLACK
        self._explain(row, line, is_final=is_final, is_dreamt=is_dreamt)

    def _is_settled(self, row: Row, doubt: _Doubt) -> bool:
        """Whether half an hour and another grant, or a day, have spoken."""
        assert row.client is not None
        refused_for = self.now() - doubt.first_at + SLACK
        others = self.served_at.get(row.client, {})
        is_witnessed = any(at >= doubt.first_at for name, at in others.items() if name != row.name)
        return refused_for >= DOUBT_FOR or (is_witnessed and refused_for >= DOUBTED_AT_LEAST)

    def _explain(self, row: Row, line: Line, *, is_final: bool, is_dreamt: bool) -> None:
        """What happened to the grant must account for its loss.

        Args:
            is_final: one refusal ends it, and nobody can tell a wrong one.
            is_dreamt: less time has passed than the clock says.
        """
        because = line.killed_by
        if because is None and row.name in self.world.server.moods.lied_to:
            if is_final:
                because = "refused wrongly after an open exchange, or before it was ever served"
            elif is_dreamt:
                because = "refused wrongly while the clock was set ahead"
        if because is None:
            self.world.witness.violated(
                f"G3: {row.name} was lost and nothing that happened explains it"
            )
        self.world.chance.seen[f"lost {row.client}: {because}"] += 1
