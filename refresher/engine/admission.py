"""How many exchanges may begin now: concurrency, rate and the breaker of each endpoint.

The breaker belongs to a (token endpoint, client id): a Retry-After or an outage told to
one grant holds back all grants that share them, and one probe reopens the way. Whoever
throttles teaches a pace, so that a crowd of due grants does not run into the same
refusal every few seconds. Waiting is measured in elapsed time: a stepped wall clock
neither opens nor closes anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from refresher.clock import Clock
from refresher.domain import schedule
from refresher.domain.clients import Client, RotationProfile
from refresher.domain.outcomes import (
    ClientRejected,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Transient,
)
from refresher.engine.pace import Pace
from refresher.logs import Event, emit

FAILURES_TO_OPEN = 5
"""Exchanges that fail in a row before the endpoint is left alone for a while."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds an endpoint that fails is left alone."""

TOO_MANY_REQUESTS = 429


@dataclass(slots=True)
class _Gate:
    """What is known of one endpoint and client id just now."""

    pace: Pace
    in_flight: int = 0
    failures: int = 0
    closed_until: float = 0.0
    probing: bool = False
    """One exchange at a time until one of them succeeds."""
    rejected: bool = False
    turn: int = 0
    """Which of several clients is offered the odd exchange next."""


class Admission:
    """Answers how many exchanges each client may begin, and learns from their outcomes."""

    def __init__(self, clients: Mapping[str, Client], clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._gates: dict[tuple[str, str], _Gate] = {}

    def room(self) -> dict[str, int]:
        """How many exchanges each client may begin now; clients with none are left out.

        Clients that share a gate share its room: together they never get more.
        """
        sharing: dict[tuple[str, str], list[Client]] = {}
        for client in self._clients.values():
            sharing.setdefault(_address(client), []).append(client)
        room = {}
        for clients in sharing.values():
            gate = self._gate(clients[0])
            free = self._free(gate, clients)
            gate.turn += 1
            for place, client in enumerate(clients):
                share = (free + (place + gate.turn) % len(clients)) // len(clients)
                if share > 0:
                    room[client.name] = share
        return room

    def last_chances(self) -> dict[str, float]:
        """Closed clients of which one replay may go out all the same.

        Returns:
            By name of the client, the wall time since when a first send is still inside
            the grace window: older exchanges have to wait like all others.
        """
        now = self._clock.now()
        return {
            client.name: now - schedule.GRACE_BUDGET * client.rotation.grace
            for client in self._clients.values()
            if client.rotation.profile is RotationProfile.GRACE
            and self.is_closed(client)
            and not self._gate(client).rejected
            and self._gate(client).in_flight == 0
        }

    def next_opening(self) -> float | None:
        """Seconds until a closed or exhausted client may begin again."""
        now = self._clock.monotonic()
        waits = []
        for client in self._clients.values():
            gate = self._gate(client)
            if gate.closed_until > now:
                waits.append(gate.closed_until - now)
            elif (wait := gate.pace.seconds_to_next(client.rate)) is not None:
                waits.append(wait)
        return min(waits, default=None)

    def begun(self, client: Client) -> None:
        """Count an exchange that begins."""
        gate = self._gate(client)
        gate.pace.begun(self._clock.monotonic(), alone=gate.in_flight == 0)
        gate.in_flight += 1

    def is_closed(self, client: Client) -> bool:
        """Whether the endpoint is to be left alone now, whatever was admitted before."""
        return self._gate(client).closed_until > self._clock.monotonic()

    def returned(self, client: Client) -> None:
        """Count an exchange that was admitted and has not been sent."""
        self._gate(client).in_flight -= 1

    def ended(self, client: Client, outcome: Outcome | None) -> None:
        """Count an exchange that ended; None when it broke without an outcome."""
        gate = self._gate(client)
        gate.in_flight -= 1
        match outcome:
            case ClientRejected(error=error):
                self._reject(gate, client, error)
            case (
                Transient(retry_after=float(retry_after))
                | OutcomeUnknown(retry_after=float(retry_after))
            ):
                wait = schedule.capped_retry_after(retry_after) * (1 + 0.1 * self._clock.draw())
                self._throttle(gate, client, wait)
            case Transient(status=status) if status == TOO_MANY_REQUESTS:
                self._throttle(gate, client, FIRST_PAUSE * (1 + self._clock.draw()))
            case NotSent() | Transient() | OutcomeUnknown() | None:
                gate.failures += 1
                if gate.failures >= FAILURES_TO_OPEN:
                    beyond = min(gate.failures - FAILURES_TO_OPEN, 8)
                    wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**beyond)
                    self._close(gate, client, wait * (0.5 + 0.5 * self._clock.draw()), "failing")
            case _:
                gate.pace.taken(self._clock.monotonic())
                self._open(gate, client)

    def forget(self, client: Client) -> None:
        """Start afresh with CLIENT, whose configuration changed."""
        gate = self._gate(client)
        gate.closed_until, gate.failures = 0.0, 0
        gate.probing = gate.rejected = False
        gate.pace = Pace()

    def _free(self, gate: _Gate, clients: list[Client]) -> int:
        now = self._clock.monotonic()
        if gate.closed_until > now:
            return 0
        limit = 1 if gate.probing else min(client.concurrency for client in clients)
        rates = [client.rate for client in clients if client.rate is not None]
        allowed = gate.pace.allows(now, min(rates, default=None))
        free = limit - gate.in_flight
        return max(free if allowed is None else min(free, allowed), 0)

    def _gate(self, client: Client) -> _Gate:
        return self._gates.setdefault(_address(client), _Gate(Pace()))

    def _throttle(self, gate: _Gate, client: Client, wait: float) -> None:
        gate.pace.throttled(self._clock.monotonic(), wait)
        self._close(gate, client, wait, "retry_after")

    def _close(self, gate: _Gate, client: Client, wait: float, reason: str) -> None:
        if not gate.probing and not gate.rejected:
            emit(
                Event.ENDPOINT_SUSPENDED, client=client.name, reason=reason, retry_s=round(wait, 1)
            )
        gate.closed_until = max(gate.closed_until, self._clock.monotonic() + wait)
        gate.probing = True

    def _reject(self, gate: _Gate, client: Client, error: str) -> None:
        if not gate.rejected:
            emit(
                Event.CLIENT_REJECTED,
                client=client.name,
                error_code=error,
                repair=f"correct client {client.name} in the settings, then send SIGHUP",
            )
        gate.rejected = gate.probing = True
        wait = schedule.CLIENT_PROBE * (1 + 2 * self._clock.draw())
        gate.closed_until = self._clock.monotonic() + wait

    def _open(self, gate: _Gate, client: Client) -> None:
        gate.failures = 0
        if gate.closed_until > self._clock.monotonic():
            # The answer to an exchange that began earlier: it does not undo a Retry-After.
            return
        if gate.rejected:
            emit(Event.CLIENT_RECOVERED, client=client.name)
        elif gate.probing:
            emit(Event.ENDPOINT_RESUMED, client=client.name)
        gate.probing = gate.rejected = False


def _address(client: Client) -> tuple[str, str]:
    return client.token_endpoint, client.client_id
