"""A simulation of rules, vault and authorization server under a virtual clock; also a command.

The real statements of the vault run on an SQLite database in memory, the real transition,
schedule and commit rule decide, and the sandbox's pure families play the server. Between
any two steps of a refresh anything may happen: a crash, a usurper while the old process
still waits for an answer, a lost or late answer, a vault that refuses, a login. After every
step the guarantees are checked. ``python -m tests.simulation --steps 1000000 --seed 1``
prints what happened; the same seed replays it.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from refresher.domain import schedule
from refresher.domain.adoption import Attempt, adopt_authorization
from refresher.domain.clients import Client, Rotation
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Claim, Grant, GrantState, Seed
from refresher.domain.outcomes import (
    GrantRejected,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    TokenAnswer,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.domain.transition import resume_unresolved, transition
from refresher.engine.records import exchange_record, read_record
from refresher.sandbox.answers import Refused
from refresher.sandbox.families import Families, TokenPair, TokenPolicy
from refresher.sandbox.families import Rotation as ServerRotation
from refresher.vault import authorizations, exchanges, queries, seeds
from refresher.vault.rows import Sealer, Transaction
from refresher.vault.schema import metadata
from refresher.vault.sealing import Fingerprinter, Keyring

PROFILES: dict[str, ServerRotation] = {
    "none": "none",
    "grace(30)": "grace",
    "until_used": "until_used",
    "strict": "strict",
}
GRANTS_EACH = 4
LIFETIME = 120.0
GRACE = 30.0
START = 1_800_000_000.0

LONGEST_WIRE = 0.5
"""Seconds a request may be under way; a new process takes longer than that to start."""


class Violated(AssertionError):
    """Raised when a guarantee does not hold."""


class Stage(Enum):
    """Where one refresh is."""

    CLAIMED = auto()
    SENT = auto()
    ANSWERED = auto()


@dataclass
class Flight:
    """One refresh of one process."""

    claim: Claim
    client: Client
    stage: Stage = Stage.CLAIMED
    sent_at: float = 0.0
    outcome: Outcome | None = None
    rescued: bytes | None = None


@dataclass
class Process:
    """One daemon's memory; a crash is the loss of this object."""

    holder: str
    flights: list[Flight] = field(default_factory=list)


class Simulation:
    """The world, one seed long."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  a replayable world
        self.now = START
        self.seen: Counter[str] = Counter()
        self.versions: dict[str, int] = {}
        self.dead: dict[str, bytes] = {}
        """Grant name to the fingerprint of its finally rejected refresh token."""
        self.engine = sa.create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self.engine)
        self.connection = self.engine.connect()
        self.sealer = Sealer(Keyring([b"k" * 32]), Fingerprinter(b"f" * 32))
        self.families = Families()
        self.clients = {
            name: Client(
                name=name,
                client_id=name,
                token_endpoint="http://127.0.0.1/token",
                rotation=Rotation.parse(name),
            )
            for name in PROFILES
        }
        self.rescue_file: list[bytes] = []
        self.count = 0
        self.process = Process("p0")
        self.usurped: list[Process] = []
        self.usurpers_hit: set[str] = set()
        """Grants whose exchange was under way in a paused process: G2 names that window."""
        for profile in PROFILES:
            for number in range(GRANTS_EACH):
                self._login(f"{profile}-{number}", profile)

    def step(self) -> None:
        """Do one random thing, then check everything that must hold."""
        self.now += self.chance.expovariate(20)
        draw = self.chance.random()
        if draw < 0.004:
            self._crash()
        elif draw < 0.006:
            self._usurp()
        elif draw < 0.008:
            name = self.chance.choice(list(self.versions))
            self._login(name, name.rpartition("-")[0])
        elif self._all_flights() and draw < 0.9:
            self._advance(*self.chance.choice(self._all_flights()))
        else:
            self._tick()
        self._check()

    def settle(self) -> None:
        """Let everything end without further faults; every grant must be alive or reported."""
        for _ in range(5_000):
            if self._all_flights():
                self._advance(*self._all_flights()[0], faults=False)
            else:
                self._tick()
            if not self._all_flights() and all(
                grant.state is GrantState.FRESH for grant in self._grants()
            ):
                return
        for grant in self._grants():
            if grant.state is not GrantState.FRESH:
                raise Violated(f"{grant.name} never recovered: {grant.state} {grant.reason}")

    def _tick(self) -> None:
        """The scheduler's turn; with nothing to do the clock leaps to the next due instant."""
        due = self._run(lambda tx: exchanges.next_due(tx.connection, list(self.clients)))
        if not self._all_flights() and due is not None and due > self.now:
            self.now = due + self.chance.random()
        claims = self._run(
            lambda tx: exchanges.claim(tx, self.process.holder, dict.fromkeys(self.clients, 3), 4)
        )
        for claim in claims:
            self.seen["claims"] += 1
            client = self.clients[claim.grant.client or ""]
            self.process.flights.append(Flight(claim, client))

    def _advance(self, process: Process, flight: Flight, *, faults: bool = True) -> None:
        roll = self.chance.random() if faults else 1.0
        match flight.stage:
            case Stage.CLAIMED:
                self._send(process, flight, roll)
            case Stage.SENT:
                self._answer(flight, roll)
            case Stage.ANSWERED:
                self._commit(process, flight, roll)

    def _send(self, process: Process, flight: Flight, roll: float) -> None:
        flight.sent_at = self.now
        flight.stage = Stage.SENT
        if roll < 0.05:
            self.seen["not sent"] += 1
            flight.outcome, flight.stage = NotSent(reason="refused"), Stage.ANSWERED
            return
        name = flight.claim.grant.name
        if self.dead.get(name) == flight.claim.intent.presented:
            raise Violated(f"G6: {name} sent a finally rejected refresh token again")
        if process is self.process and any(
            other is not flight and other.stage is Stage.SENT
            and other.claim.grant.name == name for other in process.flights
        ):  # fmt: skip
            raise Violated(f"G2: {name} has two requests in flight")

    def _answer(self, flight: Flight, roll: float) -> None:
        """The server processes, or not; the answer arrives, or not, or too late."""
        flight.stage = Stage.ANSWERED
        if roll < 0.04:
            self.seen["dropped before"] += 1
            flight.outcome = OutcomeUnknown(reason="disconnected")
            return
        if roll < 0.08:
            self.seen["throttled"] += 1
            flight.outcome = Transient(reason="http_429", status=429, retry_after=1.0)
            return
        flight.outcome = self._process_at_server(flight)
        if roll < 0.14 and not isinstance(flight.outcome, GrantRejected):
            self.seen["dropped after"] += 1
            flight.outcome = OutcomeUnknown(reason="timeout")
            self.now += self.chance.uniform(0, 5.0)

    def _process_at_server(self, flight: Flight) -> Outcome:
        grant = flight.claim.grant
        try:
            pair = self.families.refresh(
                flight.claim.refresh_token.reveal(), client_id=grant.client or "", now=self.now
            )
        except Refused as refused:
            self.seen["refused"] += 1
            return GrantRejected(error=refused.error, status=refused.status)
        return Refreshed(answer=_answer_of(pair), status=200)

    def _commit(self, process: Process, flight: Flight, roll: float) -> None:
        assert flight.outcome is not None
        attempt = Attempt(sent_at=flight.sent_at, ended_at=self.now, draw=self.chance.random())
        change = transition(flight.claim, flight.client, flight.outcome, attempt)
        if roll < 0.05 and flight.rescued is None:
            self.seen["vault refused"] += 1
            flight.rescued = exchange_record(flight.claim, change)
            if flight.rescued is not None:
                self.rescue_file.append(flight.rescued)
            return
        committed = self._run(lambda tx: exchanges.commit(tx, flight.claim, change))
        self.seen[f"commit {committed.verdict}"] += 1
        process.flights.remove(flight)
        if flight.rescued in self.rescue_file:
            self.rescue_file.remove(flight.rescued)
        if committed.verdict is Verdict.APPLY and isinstance(flight.outcome, GrantRejected):
            self._note_rejection(flight, committed.grant)

    def _note_rejection(self, flight: Flight, grant: Grant | None) -> None:
        """A loss must be one that the profile allows, and must be called by its name."""
        assert grant is not None
        if grant.state is not GrantState.REAUTHORIZATION_REQUIRED:
            return
        self.dead[grant.name] = flight.claim.intent.presented
        profile, intent = flight.client.name, flight.claim.intent
        self.seen[f"lost {profile}"] += 1
        age = flight.sent_at - intent.first_sent_at
        late = profile == "grace(30)" and age > GRACE * schedule.GRACE_BUDGET - 7.5
        usurped = grant.name in self.usurpers_hit
        if profile != "strict" and not late and not usurped:
            raise Violated(f"G3: {grant.name} was lost under {profile}, {age:.1f} s after sending")
        if not str(grant.reason).startswith("rotation_lost") and not usurped:
            raise Violated(f"G3: {grant.name} was lost silently: {grant.reason}")

    def _crash(self) -> None:
        """The process dies; what it sent is processed all the same, before a new one starts."""
        self.seen["crashes"] += 1
        self.now += self.chance.uniform(0, LONGEST_WIRE)
        for flight in self.process.flights:
            if flight.stage is Stage.SENT and self.chance.random() < 0.8:
                self.seen["crashed in flight"] += 1
                self._process_at_server(flight)
        self.now += self.chance.uniform(0.1, 4.0)
        self._start_process()

    def _usurp(self) -> None:
        """Another process takes over while this one is paused; it wakes up later."""
        self.seen["usurped"] += 1
        self.usurped = [*self.usurped[-1:], self.process]
        self.usurpers_hit |= {flight.claim.grant.name for flight in self.process.flights}
        self._start_process()

    def _start_process(self) -> None:
        """Recovery, with the rules of ``engine.recovery``."""
        self.count += 1
        self.process = Process(f"p{self.count}")
        left, self.rescue_file = self.rescue_file, []
        for record in left:
            self.seen["rescued"] += 1
            stored = self._find(json.loads(record)["name"])
            if stored is not None:
                self._adopt_rescued(record, stored)
        open_exchanges = self._run(exchanges.release_leases)
        resumed = [
            resume_unresolved(
                grant, self.clients[grant.client or ""], self.now, self.chance.random()
            )
            for grant in open_exchanges
            if grant.intent is not None
        ]
        self._run(lambda tx: exchanges.reschedule(tx, resumed))

    def _adopt_rescued(self, record: bytes, stored: Grant) -> None:
        claim, change = read_record(record).on(stored)
        self._run(lambda tx: exchanges.commit(tx, claim, change))

    def _login(self, name: str, profile: str) -> None:
        """A person authorizes: a new family, whatever happens to the old one's exchanges."""
        policy = TokenPolicy(
            rotation=PROFILES[profile],
            grace_seconds=GRACE,
            access_token_lifetime=LIFETIME,
            grace_answer="same" if self.chance.random() < 0.5 else "sibling",
        )
        _, pair = self.families.open(
            client_id=profile, subject=name, scope=(), policy=policy, now=self.now
        )
        client = self.clients[profile]
        if name not in self.versions:
            seed = Seed(name=name, client=profile)
            self._run(lambda tx: seeds.apply_seed(tx, seed, 0.5, origin="runtime"))
        grant = self._find(name)
        assert grant is not None
        attempt = Attempt(sent_at=self.now, ended_at=self.now, draw=self.chance.random())
        change = adopt_authorization(grant, client, _answer_of(pair), attempt)
        self._run(lambda tx: authorizations.authorize(tx, name, change))
        self.seen["logins"] += 1
        self.dead.pop(name, None)
        self.usurpers_hit.discard(name)
        self.versions.setdefault(name, 0)

    def _check(self) -> None:
        """Versions only grow; a grant that waits for a person is revived by one."""
        for grant in self._grants():
            if grant.version < self.versions[grant.name]:
                raise Violated(f"I1: the version of {grant.name} went back")
            self.versions[grant.name] = grant.version
            if grant.adopted_sequence > grant.attempt_sequence:
                raise Violated(f"I2: {grant.name} adopted what it never sent")
            if grant.state is GrantState.REAUTHORIZATION_REQUIRED:
                if grant.due_at is not None:
                    raise Violated(f"I3: {grant.name} is dead and due")
                self._login(grant.name, grant.client or "")

    def _all_flights(self) -> list[tuple[Process, Flight]]:
        return [
            (process, flight)
            for process in (self.process, *self.usurped)
            for flight in process.flights
        ]

    def _grants(self) -> list[Grant]:
        found: list[Grant] = self._run(lambda tx: queries.list_grants(tx.connection))
        return found

    def _find(self, name: str) -> Grant | None:
        found: Grant | None = self._run(lambda tx: queries.find_grant(tx.connection, name))
        return found

    def _run(self, operation: Callable[[Transaction], Any]) -> Any:
        with self.connection.begin():
            return operation(Transaction(self.connection, self.sealer, self.now))


def _answer_of(pair: TokenPair) -> TokenAnswer:
    return TokenAnswer(
        access_token=Secret(pair.access_token),
        refresh_token=Secret(pair.refresh_token) if pair.refresh_token else None,
        expires_in=pair.expires_in,
    )


def simulate(steps: int, seed: int) -> Counter[str]:
    """STEPS steps of one world, settled at the end; raises ``Violated``."""
    world = Simulation(seed)
    try:
        for _ in range(steps):
            world.step()
        world.settle()
    except Violated as violated:
        raise Violated(f"seed {seed}: {violated}") from violated
    finally:
        world.connection.close()
        world.engine.dispose()
    return world.seen


def main() -> int:
    """Run from the command line, in worlds of 20,000 steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seen: Counter[str] = Counter()
    started, done, seed = time.monotonic(), 0, options.seed
    while done < options.steps:
        steps = min(20_000, options.steps - done)
        seen += simulate(steps, seed)
        done, seed = done + steps, seed + 1
    took = round(time.monotonic() - started, 1)
    sys.stdout.write(json.dumps({"steps": done, "seconds": took, "violations": 0, **seen}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
