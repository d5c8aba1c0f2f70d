"""The pure rules over whole lives of a grant, beside a model of the server.

Exchanges end late or never, processes die with answers in flight, clocks pass ends, people
log in and revoke; the invariants I1 to I3 of ``refresher.domain.grants`` and the guarantees
G3, G6 and G7 are asserted after every step.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from refresher.domain import adoption, commit_rule, schedule, states, transition
from refresher.domain.adoption import Attempt
from refresher.domain.clients import UnknownOutcome
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Claim, Grant, GrantState, Intent
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    Transient,
)
from refresher.domain.pauses import is_ordered
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.reasons import Reason
from tests.domain.desk import Desk
from tests.domain.server import Server
from tests.domain.world import NOW, make_client
from tests.support.clients import changed
from tests.support.renewals import presented

ROTATIONS = [
    Rotation(RotationProfile.NONE),
    Rotation(RotationProfile.GRACE, 30.0),
    Rotation(RotationProfile.GRACE, 600.0),
    Rotation(RotationProfile.UNTIL_USED),
    Rotation(RotationProfile.STRICT),
    Rotation(RotationProfile.UNKNOWN),
]
FAULTS = ["answered", "answered", "no access token", "answer lost", "request lost", "not sent",
          "throttled", "client", "configuration", "request"]  # fmt: skip
PERSON = {GrantState.REAUTHORIZATION_REQUIRED, GrantState.PAUSED}
MOMENT = 1e-4
"""What floats of unix seconds may be off."""

draws = st.floats(0, 0.999)
waits = st.one_of(st.none(), st.floats(0, 1e5))


@dataclass(frozen=True)
class Flying:
    """One exchange whose outcome is not committed yet."""

    claim: Claim
    outcome: Outcome
    sent_at: float

    @property
    def sequence(self) -> int:
        return self.claim.intent.sequence


class GrantMachine(RuleBasedStateMachine):
    """One grant, its client, its server, one live process and any number of dead ones."""

    @initialize(
        rotation=st.sampled_from(ROTATIONS),
        policy=st.sampled_from(UnknownOutcome),
        lifetime=st.sampled_from([5.0, 40.0, 300.0, 3600.0, 86400.0]),
        survive_outage=st.sampled_from([0.0, 0.0, 1e6]),
        idle=st.sampled_from([None, None, 1000.0]),
    )
    def begin_life(self, rotation: Rotation, policy: UnknownOutcome, **drawn: float | None) -> None:
        self.now = NOW
        lifetime = drawn["lifetime"] or 0.0
        self.server = Server(rotation, lifetime)
        client = make_client(
            rotation,
            on_unknown_outcome=policy,
            survive_outage=drawn["survive_outage"],
            refresh_token_idle=drawn["idle"],
            doubt_for=1000.0,
        )
        self.desk = Desk.empty(client, NOW)
        self.live: Flying | None = None
        self.late: list[Flying] = []
        self.last: tuple[Flying, Attempt] | None = None
        self.open: dict[int, float] = {}
        """Attempts with the stored refresh token that may have been processed, and when."""
        self.overcounts = False
        """Whether the intent still counts an attempt before one whose answer was adopted."""
        self.prompt = 0
        """Instants without a wait since the refresh token is the stored one."""
        self.disturbed = False
        """Whether a person or a restart made the grant due since then."""
        self.dead: set[bytes] = set()
        self.log_in(0.5)

    @property
    def rotates(self) -> bool:
        return self.server.rotation.profile is not RotationProfile.NONE

    @property
    def is_due(self) -> bool:
        return self.live is None and self.desk.grant.due_at is not None

    # What people do.

    @rule(what=st.sampled_from(["asks", "asks", "asks", "consents", "revokes"]), draw=draws)
    def a_person(self, what: str, draw: float) -> None:
        match what:
            case "asks":
                self.ask_for_a_refresh()
            case "consents":
                self.log_in(draw)
            case _:
                self.server.revoked = True

    def log_in(self, draw: float) -> None:
        version = self.desk.grant.version
        answer = self.server.authorize(self.now)
        self.desk.log_in(answer, Attempt(sent_at=self.now, ended_at=self.now, draw=draw))
        self.new_refresh_token()
        grant = self.desk.grant
        assert (grant.state, grant.reason, grant.intent) == (GrantState.FRESH, None, None)
        assert grant.version > version
        assert grant.due_at is not None
        self.check_refresh_instant(self.now)

    def ask_for_a_refresh(self) -> None:
        was, self.last = self.desk.grant, None
        self.desk.request(self.now)
        if was.state is GrantState.REAUTHORIZATION_REQUIRED:
            assert self.desk.grant == was, "a dead refresh token is not asked for again"
        elif was.state is GrantState.PAUSED:
            assert self.desk.grant == was, "only resume ends a pause"
        self.disturbed = True

    @rule(lasts=st.one_of(st.none(), st.floats(0.001, 1e4)))
    def pause(self, lasts: float | None) -> None:
        was, self.last = self.desk.grant, None
        self.desk.pause(self.now, None if lasts is None else self.now + lasts)
        grant = self.desk.grant
        if grant != was and grant.due_at is not None:
            assert lasts is not None
            assert grant.due_at >= self.now + lasts
        self.disturbed = True

    @precondition(lambda self: self.desk.grant.state is GrantState.PAUSED)
    @rule()
    def resume(self) -> None:
        self.last, self.disturbed = None, True
        self.desk.resume(self.now)
        assert self.desk.grant.due_at == self.now

    # What time does.

    @rule(share=st.floats(0, 3))
    def pass_time(self, share: float) -> None:
        self.now, self.last = self.now + share * self.server.lifetime, None
        self.desk.grant = states.pass_time(self.desk.grant, self.now)

    # What the daemon does.

    @precondition(lambda self: self.is_due)
    @rule(fault=st.sampled_from(FAULTS), retry_after=waits)
    def send(self, fault: str, retry_after: float | None) -> None:
        due_at = self.desk.grant.due_at
        assert due_at is not None
        self.now, self.last = max(self.now, due_at), None
        claim = self.desk.claim(self.now)
        assert claim.intent.presented not in self.dead, "G6: dead once"
        self.open[claim.intent.sequence] = self.now
        outcome = self.answer(fault, presented(claim), retry_after)
        self.live = Flying(claim, outcome, self.now)

    @precondition(lambda self: self.live is not None)
    @rule(took=st.floats(0, 30), draw=draws)
    def finish(self, took: float, draw: float) -> None:
        assert self.live is not None
        flying, self.live = self.live, None
        self.land(flying, took, draw, is_live=True)

    @precondition(lambda self: self.is_due)
    @rule(fault=st.sampled_from(FAULTS), retry_after=waits, took=st.floats(0, 30), draw=draws)
    def exchange(self, fault: str, retry_after: float | None, took: float, draw: float) -> None:
        self.send(fault, retry_after)
        self.finish(took, draw)

    @precondition(lambda self: self.live is not None)
    @rule(draw=draws)
    def die(self, draw: float) -> None:
        """The process ends; its exchange may end all the same, elsewhere and later."""
        assert self.live is not None
        self.late.append(self.live)
        self.live, self.last = None, None
        self.desk.recover(self.now, draw)
        self.disturbed = True

    @precondition(lambda self: self.late)
    @rule(data=st.data(), draw=draws)
    def arrive_late(self, data: st.DataObject, draw: float) -> None:
        flying = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        self.land(flying, 0.0, draw, is_live=False)

    @precondition(lambda self: self.last is not None)
    @rule()
    def commit_again(self) -> None:
        """A commit whose success got lost is repeated."""
        assert self.last is not None
        flying, attempt = self.last
        before = self.desk.grant
        verdict = self.desk.commit(flying.claim, flying.outcome, attempt)
        brings = isinstance(flying.outcome, Refreshed | RefreshTokenOnly)
        assert verdict is (Verdict.ALREADY_APPLIED if brings else Verdict.APPLY)
        assert self.desk.grant == before

    # What the model knows.

    def answer(self, fault: str, presented: str, retry_after: float | None) -> Outcome:
        match fault:
            case "answered":
                return self.server.exchange(presented, self.now)
            case "no access token":
                outcome = self.server.exchange(presented, self.now)
                if isinstance(outcome, Refreshed) and outcome.answer.refresh_token is not None:
                    answer = replace(outcome.answer, access_token=None)
                    return RefreshTokenOnly(answer=answer, status=200)
                return outcome
            case "answer lost":
                self.server.exchange(presented, self.now)
                return OutcomeUnknown(reason="timeout", retry_after=retry_after)
            case "request lost":
                return OutcomeUnknown(reason="timeout", retry_after=retry_after)
            case "not sent":
                return NotSent(reason="refused")
            case "throttled":
                return Transient(reason="http_429", status=429, retry_after=retry_after)
            case "client":
                return ClientRejected(error="invalid_client", status=401)
            case "configuration":
                return Misconfigured(error="invalid_scope", status=400)
            case _:
                return RequestRejected(error="invalid_request", status=400)

    def land(self, flying: Flying, took: float, draw: float, *, is_live: bool) -> None:
        """Commit what FLYING brought, and compare with what the model expects."""
        attempt = Attempt(
            sent_at=flying.sent_at, ended_at=max(flying.sent_at + took, self.now), draw=draw
        )
        self.now = max(self.now, attempt.ended_at)
        before = self.desk.grant
        verdict = self.desk.commit(flying.claim, flying.outcome, attempt)
        self.last = None
        if verdict is not Verdict.APPLY:
            assert self.desk.grant == before
            assert not is_live or before.authorization_serial > 0
            return
        assert before.authorization_serial == flying.claim.grant.authorization_serial
        if is_ordered(before):
            assert self.desk.grant.state in PERSON, "no exchange ends a pause"
        self.last = (flying, attempt) if is_live else None
        self.disturbed = self.disturbed or not is_live
        match flying.outcome:
            case Refreshed() | RefreshTokenOnly() as outcome:
                self.check_adopted(flying, outcome, before)
            case GrantRejected():
                self.check_rejected(flying)
            case outcome:
                self.check_failed(flying, outcome)

    def new_refresh_token(self) -> None:
        self.open, self.prompt, self.disturbed, self.last = {}, 0, False, None

    def check_adopted(
        self, flying: Flying, outcome: Refreshed | RefreshTokenOnly, before: Grant
    ) -> None:
        grant, answer = self.desk.grant, outcome.answer
        assert flying.sequence > before.adopted_sequence, (
            "an earlier answer never replaces a later one"
        )
        assert grant.adopted_sequence == flying.sequence
        if answer.refresh_token is not None:
            assert self.desk.refresh_token == answer.refresh_token.reveal()
        rotated = grant.refresh_token_fingerprint != before.refresh_token_fingerprint
        later = {} if rotated else {n: at for n, at in self.open.items() if n > flying.sequence}
        last = self.last
        self.new_refresh_token()
        self.last, self.open, self.disturbed = last, later, bool(later)
        self.overcounts = not rotated and grant.intent is not None
        if isinstance(outcome, Refreshed):
            assert answer.access_token is not None
            assert grant.version > before.version
            assert grant.expires_at is not None
            real_end = self.server.ends[answer.access_token.reveal()]
            assert grant.expires_at <= real_end + MOMENT, "G1: valid or absent"
            if not is_ordered(grant):
                self.check_refresh_instant(self.now)

    def check_refresh_instant(self, now: float) -> None:
        grant, idle = self.desk.grant, self.desk.client.quirks.refresh_token_idle
        assert grant.due_at is not None
        assert grant.issued_at is not None
        assert grant.expires_at is not None
        lifetime = grant.expires_at - grant.issued_at
        assert grant.due_at >= now + min(1.0, (idle or 2.0) / 2) - MOMENT
        floor = grant.issued_at + lifetime / 4
        assert grant.due_at >= min(floor, now + (idle or 1e9) / 2) - MOMENT
        assert grant.due_at <= max(grant.expires_at, now + 1.0) + MOMENT

    def check_rejected(self, flying: Flying) -> None:
        grant = self.desk.grant
        others = {sequence for sequence in self.open if sequence != flying.sequence}
        self.open = {}
        before = flying.claim.grant
        if grant.state is not GrantState.REAUTHORIZATION_REQUIRED:
            assert not (self.rotates and others), "an open exchange makes a rejection final"
            told = grant.reason_detail if is_ordered(grant) else grant.reason
            assert (told or "").partition(":")[0] == Reason.REFUSED
            assert is_ordered(grant) or grant.due_at is not None
            assert grant.due_at is None or grant.due_at >= self.now + 60
            assert grant.refused_at == (before.refused_at or self.now)
            return
        self.dead.add(flying.claim.intent.presented)
        expected = Reason.ROTATION_LOST if self.rotates and others else Reason.REVOKED
        assert grant.status_reason == expected
        if expected == Reason.REVOKED:
            assert before.refused_at is not None, "doubted before dead"
            assert self.now - before.refused_at >= self.desk.client.policy.doubt_for - MOMENT
        tolerant = {RotationProfile.NONE, RotationProfile.UNTIL_USED}
        assert self.server.revoked or self.server.rotation.profile not in tolerant

    def check_failed(self, flying: Flying, outcome: Outcome) -> None:
        grant = self.desk.grant
        if not isinstance(outcome, OutcomeUnknown):
            self.open.pop(flying.sequence, None)
        if is_ordered(grant):
            return
        if grant.due_at is None:
            assert self.desk.client.policy.on_unknown_outcome is UnknownOutcome.PAUSE
            assert grant.status_reason == Reason.OUTCOME_UNKNOWN
            assert self.open, "only an open exchange pauses a grant"
            return
        wait = grant.due_at - self.now
        asked = min(getattr(outcome, "retry_after", None) or 0.0, 3600.0)
        if grant.intent is not None:  # the last chance of a grace window comes before quiet
            rotation = self.desk.client.quirks.rotation
            last = schedule.last_replay_at(grant.intent.first_sent_at, rotation)
            asked = min(asked, last - self.now) if last >= self.now - MOMENT else asked
        assert wait >= asked - MOMENT
        assert grant.due_at <= max(self.now + 3600.0, grant.expires_at or 0.0) + MOMENT
        if isinstance(outcome, ClientRejected | Misconfigured):
            assert wait >= 300 - MOMENT
        least = 0.2 * 5.0 * min(1.0, max((grant.lifetime or 600.0) / 600.0, 0.05))
        self.prompt += wait < least - MOMENT
        assert self.prompt <= 1 or self.disturbed, "never a hot loop"

    @invariant()
    def numbers_only_grow(self) -> None:
        grant = self.desk.grant
        assert grant.adopted_sequence <= grant.attempt_sequence, "I2"

    @invariant()
    def a_person_or_an_instant(self) -> None:
        grant = self.desk.grant
        if not is_ordered(grant):
            assert (grant.due_at is None) is (grant.state in PERSON), "I3"
        if grant.refresh_token_fingerprint in self.dead:
            assert grant.due_at is None, "G6: dead once"

    @invariant()
    def the_intent_counts_what_is_open(self) -> None:
        grant = self.desk.grant
        intent = grant.intent
        if intent is None or intent.presented != grant.refresh_token_fingerprint:
            assert self.open == {}
            self.overcounts = False
            return
        assert intent.attempts >= len(self.open)
        assert self.overcounts or intent.attempts == len(self.open)
        assert intent.first_sent_at <= min(self.open.values(), default=self.now)


busy = settings(max_examples=100, stateful_step_count=40, deadline=None, database=None)

TestGrant = GrantMachine.TestCase
TestGrant.settings = busy


def never_waits(now: float, *_: Any, **__: Any) -> float:
    return now


BROKEN: dict[str, tuple[Any, str, Any]] = {
    "a refusal is final at once": (schedule, "is_final_refusal", lambda *_: True),
    "every outcome counts": (commit_rule, "judge", lambda *_, **__: Verdict.APPLY),
    "replays never wait": (schedule, "replay_at", never_waits),
    "open attempts are forgotten": (Intent, "without_one", property(lambda _: None)),
    "Retry-After is ignored": (schedule, "capped_retry_after", lambda _: 0.0),
    "an exchange ends a pause": (commit_rule, "through", lambda _, after: after),
    "a replay is never an echo": (transition, "adopt_refresh", None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function, broken = BROKEN[name]
    if function == "adopt_refresh":
        original = adoption.adopt_refresh

        def broken(claim: Claim, client: Any, answer: Any, attempt: Attempt) -> Any:
            return original(
                claim, changed(client, rotation=Rotation(RotationProfile.STRICT)), answer, attempt
            )

    monkeypatch.setattr(module, function, broken)
    quick = settings(
        busy, max_examples=1000, derandomize=True, phases=[Phase.generate], print_blob=False
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(GrantMachine, settings=quick)
