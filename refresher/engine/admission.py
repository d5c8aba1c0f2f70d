"""How many exchanges may begin now, and whose failure it was when one ends.

Concurrency, rate and breaker belong to a gate, a (token endpoint, client id): a
Retry-After or an outage told to one grant holds back all grants that share them, and one
probe reopens the way. Whoever throttles teaches a pace, so that a crowd of due grants does
not run into the same refusal every few seconds. What goes wrong for one grant while others
are served is its own, and costs no other grant anything (guarantee G8).

Waiting is measured in elapsed time: a stepped wall clock neither opens nor closes anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto

from refresher.clock import Clock
from refresher.domain import schedule
from refresher.domain.claiming import Room
from refresher.domain.clients import Client
from refresher.domain.faults import usual_fault
from refresher.domain.grants import Claim, Fault
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    SubjectMissing,
    TooEarly,
    Transient,
)
from refresher.domain.quirks import RotationProfile
from refresher.domain.reasons import Reason
from refresher.domain.repairs import NO_DESCRIPTORS, UNREACHABLE, wrong_client
from refresher.domain.shares import Share, whole
from refresher.engine.gate import FIRST_PAUSE, Gate, Trial, is_throttle
from refresher.engine.words import Word, Words
from refresher.logs import Event, emit

FAILING_SHARE = 8
"""Grants that fail by themselves get one place of so many of their client's, and never none."""

FASTEST = 20.0
"""Grants a second that are made due after an outage, where nobody told a pace."""


class Settled(Enum):
    """What the end of an exchange has settled for other grants."""

    ENDPOINT_ANSWERS = auto()
    """What only waited for the endpoint can go on."""
    CLIENT_ACCEPTED = auto()
    """The words against the client were about the grants that got them."""


class Admission:
    """Answers how many exchanges each client may begin, and learns from their outcomes."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        clock: Clock,
        share: Callable[[], Share] = whole,
        words: Words | None = None,
    ) -> None:
        self._clients, self._clock, self._share = clients, clock, share
        self.words = words or Words(clock)
        """What servers have said that concerns other replicas too."""
        self._gates: dict[tuple[str, str], Gate] = {}
        self._lacks_descriptors = False

    @property
    def gates(self) -> int:
        """How many gates the clients have."""
        return len({_address(client) for client in self._clients.values()})

    @property
    def shared_in_use(self) -> int:
        """Workers that are busy beyond the one of each gate that is its own."""
        return sum(max(gate.working - 1, 0) for gate in self._gates.values())

    def rooms(self) -> list[Room]:
        """What each client may begin now; clients with nothing are left out.

        Clients that share a gate share its places: together they never get more.
        """
        sharing: dict[tuple[str, str], list[Client]] = {}
        for client in self._clients.values():
            sharing.setdefault(_address(client), []).append(client)
        rooms = []
        for clients in sharing.values():
            gate = self._gate(clients[0])
            free = self._free(gate, clients)
            gate.turn += 1
            for place, client in enumerate(clients):
                share = (free + (place + gate.turn) % len(clients)) // len(clients)
                room = self._room(gate, client, share)
                if room is not None:
                    rooms.append(room)
        return rooms

    def next_opening(self) -> float | None:
        """Seconds until a closed or exhausted client may begin again."""
        now = self._clock.monotonic()
        waits = []
        for client in self._clients.values():
            gate = self._gate(client)
            if gate.closed_until > now:
                waits.append(gate.closed_until - now)
            else:
                places, rate = self._limits(gate, [client])
                wait = gate.pace.seconds_to_next(rate)
                waits += [] if wait is None or not places else [wait]
        return min(waits, default=None)

    def begun(self, client: Client, claim: Claim) -> None:
        """Count the exchange of CLAIM, which begins."""
        gate = self._gate(client)
        gate.pace.begun(self._clock.monotonic(), alone=gate.in_flight == 0)
        self._count(gate, claim, 1)
        gate.working += 1
        if gate.trial is not None:
            gate.trial.begun.add(claim.grant.id)

    def is_closed(self, client: Client) -> bool:
        """Whether the endpoint is to be left alone now, whatever was admitted before."""
        return self._gate(client).closed_until > self._clock.monotonic()

    def is_suspended(self, client: Client) -> bool:
        """Whether the endpoint is left alone, or tried by one exchange at a time."""
        return self._gate(client).probing

    def is_rejected(self, client: Client) -> bool:
        """Whether the client was told to be rejected, and not yet to be accepted again."""
        return self._gate(client).is_rejected

    def is_held_back(self, client: Client | None) -> bool:
        """Whether one of both keeps the grants of CLIENT waiting, which has been told."""
        return client is not None and (self.is_suspended(client) or self.is_rejected(client))

    def held_back(self, clients: Mapping[str, Client]) -> set[str]:
        """The names of those of CLIENTS that are held back."""
        return {name for name, client in clients.items() if self.is_held_back(client)}

    def freed(self, client: Client) -> None:
        """A worker no longer waits for an exchange whose answer is late."""
        self._gate(client).working -= 1

    def returned(self, client: Client, claim: Claim) -> None:
        """Count an exchange that was admitted and has not been sent."""
        gate = self._gate(client)
        self._count(gate, claim, -1)
        gate.working -= 1

    def blame(self, client: Client, claim: Claim, outcome: Outcome) -> Fault | None:
        """Whose the failure was, by what happened to others at the same time."""
        usual, gate = usual_fault(outcome), self._gate(client)
        is_own = False
        match usual:
            case Fault.ENDPOINT:
                is_own = gate.fails_alone(claim.grant.id) and not is_throttle(outcome)
            case Fault.CLIENT if isinstance(outcome, ClientRejected):  # told apart once
                is_own = claim.grant.status_reason == Reason.NOT_AUTHORIZED
            case _:
                pass
        return Fault.GRANT if is_own else usual

    def ended(
        self, client: Client, claim: Claim, outcome: Outcome | None, *, was_late: bool = False
    ) -> Settled | None:
        """Count an exchange that ended, OUTCOME None when it broke without one.

        Args:
            was_late: ``freed`` was called for it.

        Returns:
            What is settled by it for other grants, if something is.
        """
        gate = self._gate(client)
        fault = None if outcome is None else self.blame(client, claim, outcome)
        self._count(gate, claim, -1)
        gate.working -= 0 if was_late else 1
        if self._is_our_lack(outcome):
            return None
        match outcome:
            case ClientRejected() if fault is Fault.GRANT:
                return None
            case SubjectMissing():
                return None  # nobody was asked
            case ClientRejected(error=error):
                self._accuse(gate, client, claim, error)
            case (
                Transient(retry_after=float(retry_after))
                | OutcomeUnknown(retry_after=float(retry_after))
            ):
                wait = schedule.capped_retry_after(retry_after) * (1 + 0.1 * self._clock.draw())
                self._throttle(gate, client, wait)
            case Transient() if is_throttle(outcome):
                self._throttle(gate, client, FIRST_PAUSE * (1 + self._clock.draw()))
            case NotSent() | Transient() | OutcomeUnknown() | None:
                if fault is not Fault.GRANT:
                    self._fail(gate, client, claim, is_reached=not isinstance(outcome, NotSent))
            case _:
                gate.pace.taken(self._clock.monotonic())
                return self._serve(gate, client, claim, outcome)
        return None

    def _is_our_lack(self, outcome: Outcome | None) -> bool:
        """Whether OUTCOME is a want of descriptors: told once, and no endpoint's fault."""
        lacks = isinstance(outcome, NotSent) and outcome.reason == NO_DESCRIPTORS
        if lacks and not self._lacks_descriptors:
            emit(Event.DESCRIPTORS_EXHAUSTED, repair=UNREACHABLE[NO_DESCRIPTORS])
        if lacks or not isinstance(outcome, NotSent):
            self._lacks_descriptors = lacks
        return lacks

    def pause_between(self, client: Client) -> float:
        """Seconds between two grants of CLIENT that are made due together."""
        paces = [client.policy.rate, self._gate(client).pace.learned, FASTEST]
        return 1.0 / min(pace for pace in paces if pace is not None)

    def sharing(self, client: Client) -> list[str]:
        """The clients behind the gate of CLIENT, by name."""
        address = _address(client)
        return [name for name, other in self._clients.items() if _address(other) == address]

    def forget(self, client: Client) -> None:
        """Start afresh with CLIENT, whose configuration changed."""
        gate = self._gate(client)
        gate.closed_until, gate.failures = 0.0, 0
        gate.failed.clear()
        gate.probing, gate.trial = False, None
        gate.pace.__init__()  # type: ignore[misc]  # the same object, as new
        self.words.unsay(gate.name)

    def hear(self, word: Word) -> None:
        """Keep to what another replica was told by a server; it asks again first."""
        if (client := self._behind(word)) is None:
            return
        gate, now = self._gate(client), self._clock.monotonic()
        wait = max(word.heard_until - self._clock.now(), 0.0)
        if word.error is None:
            gate.pace.throttled(now, wait)
            self._close(gate, client, wait, "retry_after")
        elif word.mark == self.words.mark(client):
            gate.trial = gate.trial or Trial(word.error)
            self._reject(gate, client, word.error)
            gate.closed_until = max(gate.closed_until, now + wait)

    def heard_enough(self, word: Word) -> None:
        """What another replica was told holds no longer: one exchange may find out."""
        client = self._behind(word)
        if client is not None and not self.words.has_said(word.gate):
            self._gate(client).closed_until = 0.0

    def _behind(self, word: Word) -> Client | None:
        """A client behind the gate of WORD."""
        known = self._clients.values()
        return next((one for one in known if " ".join(_address(one)) == word.gate), None)

    def _room(self, gate: Gate, client: Client, places: int) -> Room | None:
        since = None
        if client.quirks.rotation.profile is RotationProfile.GRACE:
            since = self._clock.now() - schedule.GRACE_BUDGET * client.quirks.rotation.grace
        room = Room(
            client=client.name,
            gate=gate.name,
            places=places,
            failing=max(max(client.policy.concurrency // FAILING_SHARE, 1) - gate.failing, 0),
            doubted=max(1 - gate.doubted, 0),
            replays_since=since,
            last=gate.go_last(),
            is_probe=gate.probing or gate.trial is not None,
            has_reserve=gate.working == 0,
            response_timeout=client.quirks.response_timeout,
        )
        if gate.trial is not None:
            alone = replace(room, failing=0, doubted=0)
            return alone if places > 0 else None
        if places > 0:
            return room
        # A closed endpoint gets one replay all the same, if it is that replay's last chance.
        is_chance = since is not None and self.is_closed(client) and gate.in_flight == 0
        return replace(room, places=1, only_replays=True) if is_chance else None

    def _free(self, gate: Gate, clients: list[Client]) -> int:
        now = self._clock.monotonic()
        if gate.closed_until > now:
            return 0
        is_alone = gate.probing or gate.trial is not None
        limit, rate = self._limits(gate, clients)
        limit = 1 if is_alone else limit  # each replica finds out by itself
        allowed = gate.pace.allows(now, rate)
        free = limit - gate.in_flight
        return max(free if allowed is None else min(free, allowed), 0)

    def _limits(self, gate: Gate, clients: Sequence[Client]) -> tuple[int, float | None]:
        """Exchanges at once and a second that are this replica's share."""
        concurrency = min(client.policy.concurrency for client in clients)
        rates = [client.policy.rate for client in clients if client.policy.rate is not None]
        return self._share().of(gate.name, concurrency, min(rates, default=None))

    def _gate(self, client: Client) -> Gate:
        address = _address(client)
        if address not in self._gates:
            self._gates[address] = Gate(" ".join(address))
        return self._gates[address]

    @staticmethod
    def _count(gate: Gate, claim: Claim, change: int) -> None:
        gate.in_flight += change
        if claim.grant.refused_at is not None:
            gate.doubted += change
        elif claim.grant.fault is Fault.GRANT:
            gate.failing += change

    def _fail(self, gate: Gate, client: Client, claim: Claim, *, is_reached: bool) -> None:
        is_closed = self.is_closed(client)  # and this one had left before that
        pause = gate.has_failed(claim.grant.id, is_reached=is_reached, is_closed=is_closed)
        if pause is not None:
            self._close(gate, client, pause * (0.5 + 0.5 * self._clock.draw()), "failing")

    def _throttle(self, gate: Gate, client: Client, wait: float) -> None:
        gate.pace.throttled(self._clock.monotonic(), wait)
        self._close(gate, client, wait, "retry_after")
        self.words.say(gate.name, client, wait)

    def _close(self, gate: Gate, client: Client, wait: float, reason: str) -> None:
        if not gate.probing and gate.trial is None:
            emit(
                Event.ENDPOINT_SUSPENDED, client=client.name, reason=reason, retry_s=round(wait, 1)
            )
        gate.closed_until = max(gate.closed_until, self._clock.monotonic() + wait)
        gate.probing = True

    def _accuse(self, gate: Gate, client: Client, claim: Claim, error: str) -> None:
        """A word about the client: one exchange at a time from now on, until it is settled."""
        if gate.trial is None:
            gate.trial = Trial(error)
        trial, grant_id = gate.trial, claim.grant.id
        # A person who asks the accused once more learns nothing about the others.
        is_repeated = grant_id in trial.refused and claim.grant.is_asked_for
        is_evidence = grant_id in trial.begun and not is_repeated
        trial.begun.discard(grant_id)
        trial.refused.add(grant_id)
        if not is_evidence:
            return  # the first word, one to an exchange that was out when it came, or the same
        self._reject(gate, client, error)
        pause = trial.pause(claim.grant.lifetime, self._clock.draw())
        gate.closed_until = self._clock.monotonic() + pause
        trial.probes += 1
        self.words.say(gate.name, client, pause, error)

    @staticmethod
    def _reject(gate: Gate, client: Client, error: str) -> None:
        assert gate.trial is not None
        if gate.trial.is_rejected:
            return
        gate.trial.is_rejected = gate.is_rejected = True
        repair = wrong_client(client.name)
        emit(Event.CLIENT_REJECTED, client=client.name, error_code=error, repair=repair)

    def _serve(self, gate: Gate, client: Client, claim: Claim, outcome: Outcome) -> Settled | None:
        """Somebody was served, or refused in a way that takes a client to be accepted."""
        settled = self._acquit(gate, client, claim, outcome)
        lifetime = outcome.answer.expires_in if isinstance(outcome, Refreshed) else None
        gate.has_served(claim.grant.id, lifetime)
        if gate.closed_until > self._clock.monotonic() or gate.trial is not None:
            # The answer to an exchange that began earlier: it does not undo a Retry-After.
            return settled
        if gate.probing:
            gate.probing = False
            self.words.unsay(gate.name)
            emit(Event.ENDPOINT_RESUMED, client=client.name)
            return settled or Settled.ENDPOINT_ANSWERS
        return settled

    def _acquit(self, gate: Gate, client: Client, claim: Claim, outcome: Outcome) -> Settled | None:
        trial = gate.trial
        if trial is not None and claim.grant.id not in trial.begun:
            return None
        # A server looks at the refresh token only after it has accepted the client.
        is_accepted = usual_fault(outcome) is None or isinstance(outcome, GrantRejected | TooEarly)
        if is_accepted and gate.is_rejected:
            gate.is_rejected = False
            emit(Event.CLIENT_RECOVERED, client=client.name)
        if trial is None:
            return None
        trial.begun.discard(claim.grant.id)
        if not is_accepted:
            return None
        gate.trial, gate.closed_until = None, 0.0
        self.words.unsay(gate.name)
        return Settled.CLIENT_ACCEPTED


def _address(client: Client) -> tuple[str, str]:
    return client.endpoints.token, client.client_id
