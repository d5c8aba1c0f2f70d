"""What may be sent, and for how long an answer is waited for, checked on the wire."""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refresher.domain.clients import Client, UnknownOutcome
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import Outcome, OutcomeUnknown, Transient
from refresher.domain.quirks import RotationProfile
from refresher.domain.secret import Secret
from tests.simulation.network import Request
from tests.simulation.rows import Row

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

MOST_SENDS = 30
"""Requests of one grant in a minute; more is a hot loop (restarts replay at once)."""

CLAIMED_BEFORE = 10.0
"""Seconds until a Retry-After stops claims once its exchange is durable: its commit may
have to be tried again until the engine knows that it is."""

LOOKED_BEFORE = 10.0
"""Seconds from the last look at the vault to the sending, with a slow disk in between."""

READ_FOR = 89.0
"""Seconds after its request left in which an answer is read where a lost one costs the grant."""


@dataclass
class Wire:
    """Hears every request before it leaves."""

    world: "World"
    unresolved: dict[bytes, list[Request]] = field(default_factory=dict)
    """Requests whose outcome nobody knows, by the refresh token they presented."""
    sends: dict[str, deque[float]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Grants that an operator has resumed, which alone ends a pause that waits for him."""
    resumed: set[str] = field(default_factory=set)
    """Those whose pause was ended."""
    paused_at: dict[str, float] = field(default_factory=dict)
    """Since when an operator has nothing sent for a grant."""

    def sending(self, process: "Process", client: Client, secret: Secret) -> Request:
        """A request is about to leave: may it?"""
        world, witness = self.world, self.world.witness
        fingerprint = world.server.fingerprint(secret)
        line, generation = world.server.issued[fingerprint]
        name = line.name
        sequence, claimed_at = process.claimed[name]
        if process.is_running and not witness.has_slept_since(process, claimed_at):
            witness.is_entitled(process, name, sequence)
            self._may_send(name, client, fingerprint)
            self._is_patient(process, name, client, claimed_at)
            witness.refusals.may_send(name, fingerprint)
            if generation < line.durable and process.woke_at < line.stored_at:
                witness.violated(f"G3: {name} presented a refresh token whose successor is stored")
        self._count_send(name)
        witness.turns.sent(name)
        request = Request(
            process=process,
            client=client.name,
            name=name,
            secret=secret,
            sequence=sequence,
            # Who slept between its last look and the sending knows of no successor (G2).
            durable=min(generation, line.durable),
            troubles=world.server.troubles[client.name],
            answer=process.loop.create_future(),
            sent_at=world.time(),
        )
        self.unresolved.setdefault(fingerprint, []).append(request)
        witness.note(f"send {name} {sequence}")
        return request

    def _may_send(self, name: str, client: Client, fingerprint: bytes) -> None:
        paused_at = self.paused_at.get(name)
        if paused_at is not None and self.world.time() > paused_at + LOOKED_BEFORE:
            self.world.witness.violated(f"pause: {name} was sent, and an operator has paused it")
        for other in self.world.processes:
            is_out = other.is_running and name in other.in_flight
            if is_out and not self.world.witness.was_taken_from(other, name):
                self.world.witness.violated(f"G2: {name} has two requests in flight")
        is_pausing = client.policy.on_unknown_outcome is UnknownOutcome.PAUSE
        pauses = is_pausing and name not in self.resumed
        if pauses and any(not one.is_refused for one in self.unresolved.get(fingerprint, ())):
            self.world.witness.violated(f"G3: {name} was sent again, and no operator has said so")

    def _is_patient(self, process: "Process", name: str, client: Client, claimed_at: float) -> None:
        came_at, until = process.closed.get(client.name, (0.0, 0.0))
        is_patient = claimed_at <= came_at + CLAIMED_BEFORE or self.world.time() >= until
        # A grace window that may hold an answer that was lost may be about to close.
        is_grace = client.quirks.rotation.profile is RotationProfile.GRACE
        is_replay = (self.world.witness.rows[name].intent_attempts or 0) > 1
        if not is_patient and not (is_grace and is_replay):
            self.world.witness.violated(
                f"G7: {name} was sent in spite of a Retry-After for {client.name}"
            )

    def _count_send(self, name: str) -> None:
        now, sends = self.world.time(), self.sends.setdefault(name, deque())
        sends.append(now)
        while sends[0] < now - 60.0:
            sends.popleft()
        if len(sends) > MOST_SENDS:
            self.world.witness.violated(f"G7: {name} was sent {len(sends)} times in a minute")

    def gave_up(self, request: Request) -> None:
        """A process no longer reads the answer to REQUEST: where it matters, not too soon."""
        process, waited = request.process, self.world.time() - request.sent_at
        client = self.world.clients[request.client]
        reads_on = client.quirks.rotation.profile in {
            RotationProfile.STRICT,
            RotationProfile.UNKNOWN,
        }
        if not reads_on or waited >= READ_FOR or process.is_stopping:
            return
        others = [one for one in process.in_flight.values() if one is not request]
        late = [
            one
            for one in others
            if self.world.time() - one.sent_at >= client.quirks.response_timeout
        ]
        if len(late) < process.workers:
            self.world.witness.violated(f"G3: {request.name} was given up after {waited:.0f} s")

    def resolve(self, request: Request, presented: bytes, outcome: Outcome) -> None:
        """What is known of REQUEST now; a gateway's word leaves it open, in name only."""
        request.is_refused = not isinstance(outcome, OutcomeUnknown)
        is_open = isinstance(outcome, Transient) and not outcome.is_own_word
        opened = self.unresolved.get(presented, [])
        if request.is_refused and not is_open and request in opened:
            opened.remove(request)

    def asked_for(self, row: Row) -> None:
        """An operator resumes a grant: a pause ends, a doubted one is asked for."""
        self.asked.add(row.name)
        self.world.witness.refusals.hastened(row)

    def ordered(self, before: Row, row: Row) -> None:
        """An operator has paused a grant, or that is over: by his word, its end or a loss."""
        if row.is_paused_by_order:
            self.paused_at.setdefault(row.name, self.world.time())
            return
        if self.paused_at.pop(row.name, None) is None:
            return
        self.world.chance.seen["ordered pauses over"] += 1
        has_ended = before.due_at is not None and before.due_at <= self.world.now() + 1.0
        is_other = row.authorization != before.authorization
        waits = row.is_decided_on or row.state == GrantState.REAUTHORIZATION_REQUIRED
        if not (has_ended or is_other or waits or row.name in self.asked):
            self.world.witness.violated(f"pause: that of {row.name} ended by itself")

    def paused(self, name: str) -> None:
        """A grant waits for an operator."""
        self.resumed.discard(name)
        self.world.chance.seen["operator awaited"] += 1

    def went_on(self, process: "Process", before: Row, row: Row) -> None:
        """A pause ended: by an operator, a late outcome or a new authorization."""
        if row.name in self.asked:
            self.resumed.add(row.name)
        elif process.is_stale or self.world.witness.was_taken_from(process, row.name):
            return  # the late outcome of the exchange that was taken for open
        elif row.authorization == before.authorization and row.intent_attempts is not None:
            self.world.witness.violated(
                f"G3: the pause of {row.name} ended, and no operator has said so"
            )

    def served(self, row: Row) -> None:
        """A grant has tokens: whatever was open is over."""
        self.asked.discard(row.name)
        self.resumed.discard(row.name)
        if row.fingerprint is not None:
            self.unresolved.pop(row.fingerprint, None)
