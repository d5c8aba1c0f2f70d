"""What must hold, checked from outside: on the disk, on the wire and at the server.

It reads the committed rows after every transaction and hears every request and answer;
it believes nothing the engine says of itself.
"""

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refresher.domain.grants import Grant, GrantKind, GrantState, Publication
from refresher.domain.outcomes import (
    GrantRejected,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    TokenAnswer,
    TooEarly,
    Transient,
)
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.vault.kept import ORPHAN
from tests.simulation.chance import Violated
from tests.simulation.endings import Endings
from tests.simulation.network import Request
from tests.simulation.refusals import Refusals
from tests.simulation.rows import KEPT, ROWS, Row
from tests.simulation.server import Line
from tests.simulation.turns import Turns
from tests.simulation.wire import Wire

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

MOST_EARLY = 6
"""Refusals of one access token for being too early."""

LONGEST_LEASE = 300.0
"""Seconds an exchange may take with all that vault and network can do to it."""

TIME_TO_RESCUE = 12.0
"""Seconds in which an answer is in the vault or the rescue file: two slow disk visits."""

ENDED_HERE = {Reason.REVOKED_HERE, Reason.TOKEN_ENDED}
"""Reasons for which a person is needed although no server refused anything."""


@dataclass(eq=False)
class Answer:
    """An answer that reached a living process and must never be dropped."""

    process: "Process"
    line: Line
    at: float
    fingerprint: bytes | None
    """Of the refresh token in it."""
    generation: int
    access_token: Secret | None = None
    is_unreadable: bool = False
    is_rescued: bool = False


@dataclass
class Witness:
    """Keeps the evidence, and raises when it speaks against the engine."""

    world: "World"
    rows: dict[str, Row] = field(default_factory=dict)
    answers: dict[tuple[str, int], Answer] = field(default_factory=dict)
    """Those not yet known to be durable, by grant and attempt sequence."""
    ever_stored: set[bytes] = field(default_factory=set)
    versions_published: dict[str, int] = field(default_factory=dict)
    too_early: dict[bytes, int] = field(default_factory=dict)
    """Refusals for being too early, by the refresh token presented."""
    stepped_at: dict[bytes, float] = field(default_factory=dict)
    """How far the wall clock had been set ahead when a refresh token was stored."""
    leased_at: dict[str, float] = field(default_factory=dict)
    changes: int = 0
    last_kept: int = 0
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=4_000))
    trace: int = 0
    """A checksum over everything that happened: equal for equal runs."""
    violation: str | None = None

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.world)
        self.endings = Endings(self.world)
        self.turns = Turns(self.world)
        self.wire = Wire(self.world)

    def violated(self, what: str) -> None:
        """Note that a guarantee is broken; the engine's supervision must not swallow it."""
        self.violation = self.violation or f"{what} (at {self.world.time():.3f} s)"
        raise Violated(self.violation)

    def look(self, process: "Process") -> None:
        """Compare what is committed now with what was."""
        self.turns.look(process)
        connection = self.world.disk.connection
        if connection.total_changes == self.changes:
            return
        self.changes = connection.total_changes
        for found in connection.execute(ROWS):
            row = Row(*found)
            before = self.rows.get(row.name)
            if row != before:
                self.rows[row.name] = row
                self.note(
                    f"{row.name} {row.state} {row.reason} {row.version} {row.attempt_sequence} "
                    f"{row.adopted_sequence} {row.due_at}"
                )
                self._changed(process, before, row)
        for number, name, kind, sequence in connection.execute(KEPT, (self.last_kept,)):
            self.last_kept = number
            self.world.chance.seen[f"answers kept: {kind}"] += 1
            answer = self.answers.pop((name, sequence), None)
            if kind == ORPHAN and answer is not None and answer.line.revoked_here:
                self.violated(f"revoke: late tokens of {name} were put aside, not revoked")
        for _, refresh_token, access_token in self.endings.look():
            self._parked(refresh_token, access_token)

    def _changed(self, process: "Process", before: Row | None, row: Row) -> None:
        if before is not None and row.word == Reason.REVOKED_HERE != before.word:
            self.endings.revoked(before)
        self.refusals.check(row)
        self._check_row(row)
        if row.fingerprint is not None:
            self.ever_stored.add(row.fingerprint)
            self.endings.stored(row)
        if before is None:
            return
        self._check_order(process, before, row)
        if row.adopted_sequence > before.adopted_sequence:
            self._adopted(before, row)
        if row.authorization != before.authorization:
            self._authorized(row)
        if row.lease_holder is None or row.attempt_sequence > before.attempt_sequence:
            self._ended(process, row)
        if row.attempt_sequence > before.attempt_sequence:
            self._claimed(process, before, row)
        lost = GrantState.REAUTHORIZATION_REQUIRED
        if row.state == lost != before.state and row.word not in ENDED_HERE:
            is_open = bool(self.wire.unresolved.get(row.fingerprint or b""))
            self.refusals.lost(before, row, is_open=is_open)

    def _check_order(self, process: "Process", before: Row, row: Row) -> None:
        if row.version < before.version or row.revision < before.revision:
            self.violated(f"I1: the version or revision of {row.name} went back")
        if row.adopted_sequence < before.adopted_sequence:
            self.violated(f"G3: an earlier answer for {row.name} replaced a later one")
        self.wire.ordered(before, row)
        if row.is_decided_on and not before.is_decided_on:
            self.wire.paused(row.name)
        elif before.is_decided_on and not row.is_decided_on:
            self.wire.went_on(process, before, row)

    def _check_row(self, row: Row) -> None:
        if row.adopted_sequence > row.attempt_sequence:
            self.violated(f"I2: {row.name} adopted what it never sent")
        if row.is_decided_on and row.due_at is not None:
            self.violated(f"I3: {row.name} waits for a decision and is due")
        waits = row.state in {GrantState.REAUTHORIZATION_REQUIRED, GrantState.PAUSED}
        works = not waits and row.fingerprint is not None
        if works and row.due_at is None and row.lease_holder is None:
            self.violated(f"G7: {row.name} is {row.state}, neither scheduled nor leased")

    def _authorized(self, row: Row) -> None:
        """A login, an import, a removal or ``revoke``: what was before is over."""
        self.refusals.ordered.pop(row.name, None)
        self.wire.served(row)
        if row.fingerprint is not None and self.world.server.issued[row.fingerprint][0].served:
            self.refusals.served(row)

    def _ended(self, process: "Process", row: Row) -> None:
        """An exchange is over and durable; a Retry-After in it counts from here."""
        self.leased_at.pop(row.name, None)
        if row.name in process.closing:
            client, until = process.closing.pop(row.name)
            process.closed[client] = self.world.time(), until

    def _claimed(self, process: "Process", before: Row, row: Row) -> None:
        # A commit and the next claim of one process may share one transaction.
        holder = process.vault.holder
        if before.lease_holder not in {None, holder} or row.lease_holder != holder:
            self.violated(f"G2: {row.name} was claimed over a lease")
        process.claimed[row.name] = row.attempt_sequence, self.world.time()
        self.leased_at[row.name] = self.world.time()
        self.world.chance.seen["claims"] += 1

    def _adopted(self, before: Row, row: Row) -> None:
        answer = self.answers.pop((row.name, row.adopted_sequence), None)
        if answer is None or answer.is_unreadable:
            self.violated(f"G3: {row.name} adopted an answer that never came")
            return
        # A commit and the removal or revocation after it may share one transaction.
        is_ended = row.authorization_serial != before.authorization_serial
        if answer.fingerprint not in {None, row.fingerprint} and not is_ended:
            self.violated(f"G3: {row.name} did not store the refresh token that came")
        if answer.line is not self.endings.lines.get(before.authorization):
            self.violated(f"G3: an answer to an older authorization of {row.name} was adopted")
        if answer.generation < answer.line.durable:
            self.violated(f"G3: an older refresh token of {row.name} replaced a newer one")
        answer.line.durable, answer.line.served = answer.generation, True
        answer.line.stored_at = self.world.time()
        if row.fingerprint is not None:
            self.stepped_at[row.fingerprint] = self.world.stepped_ahead
        self.refusals.served(row)
        self.wire.served(row)
        self.world.chance.seen["adopted"] += 1
        if answer.process.is_stale:
            self.world.chance.seen["late answer of a usurped process adopted"] += 1

    def _parked(self, refresh_token: Secret | None, access_token: Secret | None) -> None:
        """Tokens wait to be revoked: an answer that held them is safe."""
        fingerprint = refresh_token and self.world.server.fingerprint(refresh_token)
        for key, answer in list(self.answers.items()):
            is_it = answer.access_token == access_token and answer.fingerprint == fingerprint
            if is_it and not answer.is_unreadable:
                answer.line.durable = max(answer.line.durable, answer.generation)
                self.world.chance.seen["late tokens parked"] += 1
                del self.answers[key]

    def received(self, request: Request, outcome: Outcome) -> None:
        """An outcome reached a living process: from here on it must not be dropped."""
        process, key = request.process, (request.name, request.sequence)
        self.note(f"answer {request.name} {request.sequence}: {outcome}")
        presented = self.world.server.fingerprint(request.secret)
        line, generation = self.world.server.issued[presented]
        self.wire.resolve(request, presented, outcome)
        now = self.world.time()
        match outcome:
            case Refreshed(answer=answer) | RefreshTokenOnly(answer=answer):
                self.answers[key] = self._answer_of(process, line, generation, answer)
                quirks = self.world.clients[request.client].quirks
                if now - request.sent_at > quirks.response_timeout:
                    self.world.chance.seen["read late"] += 1
            case OutcomeUnknown(body=bytes()):
                self.answers[key] = Answer(process, line, now, None, generation, is_unreadable=True)
            case GrantRejected():
                self.refusals.heard(request, presented, outcome)
            case TooEarly() if self._has_live_token(request.name, presented):
                self.too_early[presented] = self.too_early.get(presented, 0) + 1
                if self.too_early[presented] > MOST_EARLY:
                    self.violated(f"G7: {request.name} was sent too early again and again")
            case _:
                pass
        if isinstance(outcome, Transient | OutcomeUnknown) and outcome.retry_after is not None:
            process.closing[request.name] = request.client, now + outcome.retry_after
        if process.is_stale:
            self.world.chance.seen["late answer of a usurped process"] += 1

    def _has_live_token(self, name: str, presented: bytes) -> bool:
        """Whether NAME has the token that its server wants to be used up, as both clocks say."""
        has_ended = self.rows[name].state in {GrantState.PENDING, GrantState.EXPIRED}
        return not has_ended and self.stepped_at.get(presented) == self.world.stepped_ahead

    def _answer_of(
        self, process: "Process", line: Line, generation: int, answer: TokenAnswer
    ) -> Answer:
        """What ANSWER brings; without a refresh token the GENERATION presented stays."""
        fingerprint = None
        if answer.refresh_token is not None:
            fingerprint = self.world.server.fingerprint(answer.refresh_token)
            _, generation = self.world.server.issued[fingerprint]
        now = self.world.time()
        return Answer(process, line, now, fingerprint, generation, answer.access_token)

    def published(self, process: "Process", row: Publication) -> None:
        """What a publisher read and sends; consumers use it."""
        name, version = row.grant.name, row.grant.version
        if version < self.versions_published.get(name, 0):
            self.went_back(process, name)
        self.versions_published[name] = max(version, self.versions_published.get(name, 0))
        if row.access_token is not None and row.grant.kind is not GrantKind.STATIC:
            self.world.server.families.use(row.access_token.reveal(), self.world.time())

    def logged_in(self, grant: Grant) -> None:
        """A person was told that the login is done: its tokens must be on the disk."""
        if grant.refresh_token_fingerprint not in self.ever_stored:
            self.violated(f"G3: the acknowledged login of {grant.name} is not durable")
        self.world.chance.seen["logins"] += 1

    def recovered(self, process: "Process") -> None:
        """A new process has recovered: nothing of the dead is left."""
        self.no_lease_outlives_recovery()
        for (name, _), answer in self.answers.items():
            if answer.is_rescued and answer.process.rescue_file == process.rescue_file:
                self.violated(f"G3: the rescued answer of {name} was not taken up")

    def no_lease_outlives_recovery(self) -> None:
        """A process that has the vault for itself has ended those of all others."""
        holders = {p.vault.holder for p in self.world.processes}
        for row in self.rows.values():
            if row.lease_holder is not None and row.lease_holder not in holders:
                self.violated(f"G7: the lease of {row.name} outlived its process and recovery")

    def went_back(self, process: "Process", name: str) -> None:
        """PROCESS publishes of NAME what is older than what was published."""
        if not process.is_stale:
            self.violated(f"G4: what is published of {name} went back")

    # what is otherwise where several processes share the disk

    def has_slept_since(self, process: "Process", instant: float) -> bool:
        """Whether PROCESS may know nothing of what the others did since INSTANT."""
        del process, instant
        return False

    def is_entitled(self, process: "Process", name: str, sequence: int) -> None:
        """PROCESS, which has not slept, is about to send the exchange SEQUENCE of NAME."""

    def was_taken_from(self, process: "Process", name: str) -> bool:
        """Whether an exchange of NAME was taken over from PROCESS while it was out."""
        del process, name
        return False

    def gone(self, process: "Process", rescued: set[tuple[str, int]], *, in_order: bool) -> None:
        """PROCESS ended; what it had received is durable, rescued, or died with it."""
        for key, answer in list(self.answers.items()):
            if answer.process is not process or answer.is_rescued:
                continue
            if key in rescued:
                answer.is_rescued = True
                self.world.chance.seen["answers in the rescue file"] += 1
                continue
            del self.answers[key]
            if in_order or self._had_time(process, answer):
                self.violated(f"G3: an answer for {key[0]} was neither stored nor rescued")
            self.world.chance.seen["answers that died in memory"] += 1

    def _had_time(self, process: "Process", answer: Answer) -> bool:
        """Whether PROCESS lived long enough with ANSWER to make it safe before it died."""
        if process.is_paused:
            return False
        return self.world.time() - max(answer.at, process.woke_at) > TIME_TO_RESCUE

    def check_time(self) -> None:
        """What must not take for ever, looked at now and then."""
        now = self.world.time()
        self.turns.check(self.rows)
        running = [process for process in self.world.processes if process.is_running]
        woke_at = {p.vault.holder: max(p.woke_at, p.reached_at) for p in running}
        for row in self.rows.values():
            if row.lease_holder not in woke_at:
                continue
            since = max(self.leased_at.get(row.name, now), woke_at[row.lease_holder])
            if now - since > LONGEST_LEASE:
                self.violated(f"G7: {row.name} has been leased for {now - since:.0f} s")
        for (name, _), answer in self.answers.items():
            since = max(answer.at, answer.process.woke_at, answer.process.reached_at)
            if (
                answer.process.is_running
                and not answer.process.is_cut_off
                and now - since > LONGEST_LEASE
            ):
                self.violated(f"G3: an answer for {name} is still not durable")

    def note(self, what: str) -> None:
        """Remember that WHAT happened now."""
        line = f"{self.world.time():.6f} {what}"
        self.notes.append(line)
        self.trace = zlib.crc32(line.encode(), self.trace)

    def about(self, name: str) -> list[str]:
        """The latest notes that concern the grant NAME or everybody."""
        others = tuple(f" {other} " for other in self.rows if other != name)
        return [line for line in self.notes if not any(other in line for other in others)]
