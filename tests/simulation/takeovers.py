"""What must hold where several replicas share the vault: who may take what over from whom.

It knows who is dead, who reads which answer and who was heard of, from outside.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from refresher.domain.quirks import RotationProfile
from tests.simulation.rows import Row
from tests.simulation.server import GRACE, KINDS
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.shared import SharedWorld

MISSED = 3.0
"""Seconds of silence before which nothing is taken over: the promise, not the code."""

SLACK = 0.5
"""Seconds by which clocks are wrong and a look at the vault is old."""

READ_FOR, WAITED_FOR = 90.0, 150.0
"""Seconds after its claim in which an answer may be read, and for which it is waited for where
no token says when."""

SENT_WITHIN = 10.0
"""Seconds after its claim in which a request begins: its lease is as long as that allows."""

TAKEN_UP_WITHIN = 40.0
"""Seconds, with a replica at work all the time, until the work of a dead one is taken up."""

LONGEST_WAIT = 400.0
"""The same of one that may live."""


@dataclass
class SharedWitness(Witness):
    """Keeps the evidence of several replicas."""

    lives: dict[str, "Process"] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)
    """The last heartbeat of each holder that the vault took."""
    died_at: dict[str, float] = field(default_factory=dict)
    known_dead: set[str] = field(default_factory=set)
    """Those whose connection ended while they were heard of."""
    dated: dict[str, float] = field(default_factory=dict)
    """When the vault says that grants were leased, for whoever judges their holders: a claim is
    dated before it is on its way there, which may take long."""
    taken: dict[tuple[str, str], float] = field(default_factory=dict)
    """When exchanges were taken over, by holder and grant."""
    able_since: float = 0.0

    @property
    def shared(self) -> "SharedWorld":
        return cast("SharedWorld", self.world)

    def look(self, process: "Process") -> None:
        self.lives.setdefault(process.vault.holder, process)
        connection = self.world.disk.connection
        if connection.total_changes != self.changes:
            for holder, heard_at in connection.execute("SELECT holder, heartbeat_at FROM replicas"):
                if self.heard_at.get(holder) != heard_at:
                    self.heard_at[holder] = heard_at
        super().look(process)

    def _changed(self, process: "Process", before: Row | None, row: Row) -> None:
        holder = process.vault.holder
        if before is not None and before.lease_holder not in {None, holder, row.lease_holder}:
            self._left(process, before, row)
        super()._changed(process, before, row)

    def _left(self, process: "Process", before: Row, row: Row) -> None:
        """PROCESS has ended the lease of another holder."""
        assert before.lease_holder is not None
        other = self.lives[before.lease_holder]
        is_successor = not other.is_alive and other.rescue_file == process.rescue_file
        if is_successor and row.adopted_sequence > before.adopted_sequence:
            return  # it found the answer in the rescue file
        if is_successor and row.attempt_sequence == before.attempt_sequence and self._is_kept(row):
            return
        self.taken[before.lease_holder, row.name] = self.world.time()
        self.note(f"{row.name} is taken over from {other.rescue_file.stem}")
        kind = self._kind(other, before)
        if self._silence(before) < MISSED * self.world.pace - SLACK:
            self.violated(f"G2: {row.name} was taken over from a replica that is heard of")
        if kind == "cut off":
            self._was_waited_for(other, before)
        self.world.chance.seen[f"taken over: {kind}"] += 1

    def _is_kept(self, row: Row) -> bool:
        """Whether an answer to the latest attempt of ROW was put aside, unread."""
        count = self.world.disk.connection.execute(
            "SELECT count(*) FROM kept_answers WHERE grant_name = ? AND sequence = ?",
            (row.name, row.attempt_sequence),
        )
        return bool(count.fetchone()[0])

    def _silence(self, row: Row) -> float:
        """Seconds since anything was heard of who has leased ROW."""
        signs = self.heard_at.get(row.lease_holder or ""), self.dated.get(row.name)
        return self.world.now() - max(sign for sign in (*signs, -math.inf) if sign is not None)

    def _kind(self, other: "Process", before: Row) -> str:
        """Why the exchange that OTHER has open of BEFORE may be taken over, as it is."""
        if before.intent_attempts is None:
            return "nothing open"
        if not other.is_alive:
            return "dead"
        match self.world.clients[before.client or ""].quirks.rotation.profile:
            case RotationProfile.NONE | RotationProfile.UNTIL_USED:
                return "harmless"
            case RotationProfile.GRACE:
                found = self.world.disk.connection.execute(
                    "SELECT intent_first_sent_at FROM grants WHERE name = ?", (before.name,)
                ).fetchone()
                ends_at = math.inf if found[0] is None else found[0] + 0.66 * GRACE - GRACE / 4
                return "harmless" if self.world.now() <= ends_at + SLACK else "cut off"
            case _:
                return "cut off"

    def _was_waited_for(self, other: "Process", before: Row) -> None:
        """Its answer may be the only good one: not while it may come, nor while a token lives."""
        name, since = before.name, self.world.time() - self.leased_at[before.name]
        if name in other.in_flight and not other.is_paused:
            self.violated(f"G2: {name} was taken over while its answer may be read")
        if since < READ_FOR:
            self.violated(f"G2: {name} was taken over {since:.0f} s after its claim")
        left = math.nan if before.expires_at is None else before.expires_at - self.world.now()
        lifetime = KINDS[before.client or ""].lifetime * self.world.pace
        if left > lifetime / 4 + SLACK and not self.world.chance.is_calm:
            self.violated(f"G3: {name} was taken over, and its token lives {left:.0f} s more")
        if not left > -since and since < WAITED_FOR:
            self.violated(f"G3: {name} without a token was waited for {since:.0f} s only")

    def _claimed(self, process: "Process", before: Row, row: Row) -> None:
        if before.lease_holder is not None and row.lease_holder != before.lease_holder:
            # A take-over, which was judged, and the next claim may share one transaction.
            before = before._replace(lease_holder=None)
        self.dated[row.name] = self._taken_at(row.name)
        super()._claimed(process, before, row)

    def _taken_at(self, name: str) -> float:
        [[taken_at]] = self.world.disk.connection.execute(
            "SELECT lease_taken_at FROM grants WHERE name = ?", (name,)
        )
        return float(taken_at)

    def has_slept_since(self, process: "Process", instant: float) -> bool:
        return process.woke_at > instant

    def is_entitled(self, process: "Process", name: str, sequence: int) -> None:
        row, holder = self.rows[name], process.vault.holder
        if row.lease_holder != holder or row.attempt_sequence != sequence:
            if self.world.time() - self.taken.get((holder, name), -math.inf) > SLACK:
                self.violated(f"G2: {name} was sent, and leased to somebody else")
            return
        taken_at = self.dated[name]  # as others see it
        now, heard_at = self.world.now() - SLACK, self.heard_at.get(holder, -math.inf)
        if now - taken_at > SENT_WITHIN:
            self.violated(f"G2: {name} was sent {now - taken_at:.0f} s after its claim")
        if now - max(taken_at, heard_at) > MISSED * self.world.pace:
            self.violated(f"G2: {name} was sent by a replica that nobody hears")

    def was_taken_from(self, process: "Process", name: str) -> bool:
        return (process.vault.holder, name) in self.taken

    def went_back(self, process: "Process", name: str) -> None:
        """Redis refuses it: another replica was faster."""

    def no_lease_outlives_recovery(self) -> None:
        """A start ends none: the others live, or are judged later."""

    def gone(self, process: "Process", rescued: set[tuple[str, int]], *, in_order: bool) -> None:
        holder = process.vault.holder
        self.died_at[holder] = self.world.time()
        silence = self.world.now() - self.heard_at.get(holder, -math.inf)
        shown = self.world.disk.connection.execute(
            "SELECT backend_pid FROM replicas WHERE holder = ?", (holder,)
        ).fetchone()
        # None of those whose rescue file their successor has to bring, or behind a pooler.
        is_seen = not process.is_cut_off and shown is not None and shown[0] is not None
        if is_seen and silence < MISSED * self.world.pace:
            self.known_dead.add(holder)
        super().gone(process, rescued, in_order=in_order)

    def check_time(self) -> None:
        super().check_time()
        now = self.world.time()
        if not self.shared.is_able():
            self.able_since = now
        for row in self.rows.values():
            died_at = self.died_at.get(row.lease_holder or "")
            if died_at is None:
                continue
            longest = TAKEN_UP_WITHIN if row.lease_holder in self.known_dead else LONGEST_WAIT
            since = max(died_at, self.able_since)
            if now - since > longest * self.world.pace:
                self.violated(f"G7: {row.name} is leased to a dead replica for {now - since:.0f} s")
