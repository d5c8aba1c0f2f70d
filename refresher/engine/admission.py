"""How many exchanges may begin now: concurrency, rate and the breaker of each endpoint.

The breaker belongs to a (token endpoint, client id): a Retry-After or an outage told to
one grant holds back all grants that share them, and one probe reopens the way.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from refresher.clock import Clock
from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    ClientRejected,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Transient,
)
from refresher.logs import Event, emit

FAILURES_TO_OPEN = 5
"""Exchanges that fail in a row before the endpoint is left alone for a while."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds an endpoint that fails is left alone."""


@dataclass(slots=True)
class _Gate:
    """What is known of one endpoint and client just now."""

    in_flight: int = 0
    failures: int = 0
    closed_until: float = 0.0
    probing: bool = False
    """One exchange at a time until one of them succeeds."""
    rejected: bool = False
    allowance: float = 1.0
    """Exchanges the rate allows to begin; grows with time up to one second's worth."""
    counted_at: float = 0.0


class Admission:
    """Answers how many exchanges each client may begin, and learns from their outcomes."""

    def __init__(self, clients: Mapping[str, Client], clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._gates: dict[tuple[str, str], _Gate] = {}

    def room(self) -> dict[str, int]:
        """How many exchanges each client may begin now; clients with none are left out."""
        room = {}
        for name, client in self._clients.items():
            if (free := self._free(client)) > 0:
                room[name] = free
        return room

    def next_opening(self) -> float | None:
        """The wall time at which a closed or exhausted client may begin again."""
        now = self._clock.now()
        waits = []
        for client in self._clients.values():
            gate = self._gate(client)
            if gate.closed_until > now:
                waits.append(gate.closed_until)
            elif client.rate is not None and gate.allowance < 1:
                waits.append(now + (1 - gate.allowance) / client.rate)
        return min(waits, default=None)

    def begun(self, client: Client) -> None:
        """Count an exchange that begins."""
        gate = self._gate(client)
        gate.in_flight += 1
        if client.rate is not None:
            gate.allowance -= 1

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
                self._close(gate, client, wait, "retry_after")
            case NotSent() | Transient() | OutcomeUnknown() | None:
                gate.failures += 1
                if gate.failures >= FAILURES_TO_OPEN:
                    beyond = min(gate.failures - FAILURES_TO_OPEN, 8)
                    wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**beyond)
                    self._close(gate, client, wait * (0.5 + 0.5 * self._clock.draw()), "failing")
            case _:
                self._open(gate, client)

    def forget(self, client: Client) -> None:
        """Start afresh with CLIENT, whose configuration changed."""
        gate = self._gate(client)
        gate.closed_until, gate.failures = 0.0, 0
        gate.probing = gate.rejected = False

    def _free(self, client: Client) -> int:
        gate, now = self._gate(client), self._clock.now()
        if gate.closed_until > now:
            return 0
        limit = 1 if gate.probing else client.concurrency
        free = limit - gate.in_flight
        if client.rate is not None:
            elapsed = max(now - gate.counted_at, 0.0)
            burst = max(client.rate, 1.0)
            gate.allowance = min(burst, gate.allowance + elapsed * client.rate)
            gate.counted_at = now
            free = min(free, int(gate.allowance))
        return max(free, 0)

    def _gate(self, client: Client) -> _Gate:
        return self._gates.setdefault((client.token_endpoint, client.client_id), _Gate())

    def _close(self, gate: _Gate, client: Client, wait: float, reason: str) -> None:
        if not gate.probing and not gate.rejected:
            emit(
                Event.ENDPOINT_SUSPENDED, client=client.name, reason=reason, retry_s=round(wait, 1)
            )
        gate.closed_until = max(gate.closed_until, self._clock.now() + wait)
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
        gate.closed_until = self._clock.now() + wait

    def _open(self, gate: _Gate, client: Client) -> None:
        gate.failures = 0
        if gate.closed_until > self._clock.now():
            # The answer to an exchange that began earlier: it does not undo a Retry-After.
            return
        if gate.rejected:
            emit(Event.CLIENT_RECOVERED, client=client.name)
        elif gate.probing:
            emit(Event.ENDPOINT_RESUMED, client=client.name)
        gate.probing = gate.rejected = False
