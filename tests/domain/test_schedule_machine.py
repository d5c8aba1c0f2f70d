"""The schedule over whole lives of tokens: outages, unknown outcomes, clocks that jump."""

import math
from collections.abc import Callable
from dataclasses import replace
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

from refresher.domain import schedule
from refresher.domain.adoption import Attempt
from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Intent
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.transition import transition
from tests.domain.world import NOW, answered, claimed, make_client, make_grant

MOMENT = 1e-3
DAY = 86400.0

draws = st.floats(0, 0.999)
lifetimes = st.one_of(st.floats(1, 120), st.floats(1, 7200), st.floats(1, 365 * DAY))
rotations = st.one_of(
    st.sampled_from(
        [profile for profile in RotationProfile if profile is not RotationProfile.GRACE]
    ).map(Rotation),
    st.floats(0, 7200).map(lambda seconds: Rotation(RotationProfile.GRACE, seconds)),
)


class ScheduleMachine(RuleBasedStateMachine):
    """When a grant is tried, over refreshes, failures, lost answers and restarts."""

    @initialize(
        rotation=rotations,
        policy=st.sampled_from(UnknownOutcome),
        survive_outage=st.one_of(st.just(0.0), st.floats(0, 2 * DAY)),
        idle=st.one_of(st.none(), st.floats(2, 60 * DAY)),
        lifetime=lifetimes,
    )
    def begin(self, rotation: Rotation, policy: UnknownOutcome, **drawn: float | None) -> None:
        self.now = NOW
        self.rotation, self.policy = rotation, policy
        self.survive_outage, self.idle = drawn["survive_outage"] or 0.0, drawn["idle"]
        self.due_at: float | None = None
        self.intent: Intent | None = None
        self.refreshed(drawn["lifetime"] or 1.0, 0.5, None)

    @property
    def remaining(self) -> float:
        return self.expires_at - self.now

    @property
    def lifetime(self) -> float:
        return self.expires_at - self.issued_at

    @rule(lifetime=lifetimes, draw=draws, share=st.one_of(st.none(), st.floats(-1, 2)))
    def refreshed(self, lifetime: float, draw: float, share: float | None) -> None:
        """A new token, whose server may ask for its refresh at a SHARE of its life."""
        self.issued_at, self.expires_at = self.now, self.now + lifetime
        self.failures, self.intent = 0, None
        refresh_in = None if share is None else share * lifetime
        at = schedule.refresh_at(
            self.issued_at,
            self.expires_at,
            draw,
            survive_outage=self.survive_outage,
            refresh_in=refresh_in,
        )
        lead = self.expires_at - at
        if refresh_in is not None and 0 < refresh_in < self.lifetime:
            asked = min(refresh_in, lifetime - min(60.0, lifetime / 4))
            assert -MOMENT <= at - self.now - asked <= 0.05 * refresh_in + MOMENT
            assert lead >= min(60.0, lifetime / 4) - MOMENT
        else:
            assert lead <= lifetime / 2 + MOMENT
            wanted = max(min(60.0, 0.4 * lifetime), 0.2 * lifetime, self.survive_outage)
            assert lead >= min(wanted, lifetime / 2) - MOMENT
        self.due_at = self.instant_in_the_grant(lifetime, draw, refresh_in, at)

    def instant_in_the_grant(
        self, lifetime: float, draw: float, refresh_in: float | None, at: float
    ) -> float:
        """What the transition makes of it: floors, and the keep-alive of an idle one."""
        client = make_client(
            self.rotation, survive_outage=self.survive_outage, refresh_token_idle=self.idle
        )
        change = transition(
            claimed(make_grant()),
            client,
            answered(expires_in=lifetime, refresh_in=refresh_in),
            Attempt(sent_at=self.now, ended_at=self.now, draw=draw),
        )
        due_at = change.grant.due_at
        assert due_at is not None
        keep_alive = math.inf if self.idle is None else self.now + self.idle / 2
        floor = self.now + schedule.floor_between(lifetime)
        assert due_at == pytest.approx(min(max(at, floor), keep_alive), abs=MOMENT)
        assert due_at >= self.now + 1.0 - MOMENT, "never a hot loop"
        return due_at

    @precondition(lambda self: self.due_at is not None)
    @rule()
    def wait_until_due(self) -> None:
        assert self.due_at is not None
        self.now = max(self.now, self.due_at)

    @rule(seconds=st.one_of(st.floats(0, 60), st.floats(0, 30 * DAY)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.floats(0, 2 * DAY))
    def step_the_clock_back(self, seconds: float) -> None:
        """What was issued in what is now the future is due, as the vault decides."""
        self.now -= seconds
        if self.issued_at > self.now + 5.0 and self.due_at is not None:
            self.due_at = min(self.due_at, self.now)

    @precondition(lambda self: self.due_at is not None)
    @rule(draw=draws, retry_after=st.one_of(st.none(), st.floats(-10, 1e5)))
    def fail(self, draw: float, retry_after: float | None) -> None:
        self.failures += 1
        self.due_at = self.checked_retry(draw, retry_after)

    @precondition(lambda self: self.due_at is not None)
    @rule(draw=draws)
    def lose_an_answer(self, draw: float) -> None:
        """An attempt whose outcome nobody knows; a restart with an open one is the same."""
        self.failures += 1
        fallback = self.checked_retry(draw, None)
        self.intent = (
            replace(self.intent, attempts=self.intent.attempts + 1)
            if self.intent
            else Intent(sequence=1, presented=b"rt", first_sent_at=self.now, attempts=1)
        )
        self.due_at = self.checked_replay(self.intent, fallback)

    @precondition(lambda self: self.due_at is None)
    @rule()
    def an_operator_decides(self) -> None:
        self.due_at = self.now

    @rule(draw=draws, took=st.floats(0, 30))
    def outlive_an_outage(self, draw: float, took: float) -> None:
        """Every attempt fails until the token is gone; the patience must outlast it."""
        now, failures, tried = self.expires_at - min(self.lifetime / 2, 3600.0), 0, 0
        while now < self.expires_at and tried < 1000:
            intent = Intent(sequence=1, presented=b"rt", first_sent_at=now, attempts=1)
            wait = schedule.waiting(self.rotation, 30.0, intent, now, self.expires_at - now)
            now += min(took, wait.deadline)
            failures, tried = failures + 1, tried + 1
            again = schedule.retry_at(
                now, failures, draw, expires_at=self.expires_at, lifetime=self.lifetime
            )
            assert again > now
            now = again
        assert tried >= 2 or self.lifetime <= 60

    def checked_retry(self, draw: float, retry_after: float | None) -> float:
        at = schedule.retry_at(
            self.now,
            self.failures,
            draw,
            expires_at=self.expires_at,
            lifetime=self.lifetime,
            retry_after=retry_after,
        )
        wait, asked = at - self.now, min(max(retry_after or 0.0, 0.0), 3600.0)
        scale = min(1.0, max(self.lifetime / 600.0, 0.05))
        assert wait >= max(asked, scale) - MOMENT
        longest = 900.0 if self.remaining <= 0 else 300.0 * scale
        if 0 < self.remaining < 30.0:
            longest = min(longest, 30.0)
        assert wait <= max(asked, longest) + MOMENT
        assert wait <= max(asked, 5.0 * 2.0 ** (self.failures - 1)) + MOMENT
        return at

    def checked_replay(self, intent: Intent, fallback: float) -> float | None:
        at = schedule.replay_at(
            self.now,
            intent,
            self.rotation,
            self.policy,
            fallback,
            expires_at=self.expires_at,
            lifetime=self.lifetime,
        )
        profile, first = self.rotation.profile, intent.attempts == 1
        window = schedule.mandatory_window(self.lifetime)
        ends_at = min(self.expires_at, self.now + self.lifetime)
        deferred = max(ends_at - window, self.now if first else fallback)
        if at is None:
            assert self.policy is UnknownOutcome.PAUSE
            assert profile not in {RotationProfile.NONE, RotationProfile.UNTIL_USED}
            return None
        assert at >= self.now - MOMENT
        match profile:
            case RotationProfile.NONE:
                assert at == fallback
            case RotationProfile.UNTIL_USED:
                assert at <= fallback
            case RotationProfile.GRACE if self.ends_in_grace(at, intent):
                assert at <= fallback
            case _:
                waits = self.policy is UnknownOutcome.DEFER
                assert at == (deferred if waits else self.now if first else fallback)
        return at

    def ends_in_grace(self, at: float, intent: Intent) -> bool:
        """Whether AT is a prompt replay, which must end while its refresh token is accepted."""
        takes = schedule.replay_length(self.rotation)
        return at + takes <= intent.first_sent_at + 0.66 * self.rotation.grace

    @invariant()
    def an_attempt_has_a_sane_deadline(self) -> None:
        intent = self.intent or Intent(
            sequence=1, presented=b"rt", first_sent_at=self.now, attempts=1
        )
        wait = schedule.waiting(self.rotation, 30.0, intent, self.now, self.remaining)
        assert 5.0 <= wait.deadline <= 30.0
        assert wait.deadline <= wait.reading <= 90.0
        if wait.reading == wait.deadline and self.rotation.profile is RotationProfile.GRACE:
            assert wait.deadline <= max(5.0, self.rotation.grace / 4)

    @invariant()
    def the_mandatory_window_is_part_of_the_life(self) -> None:
        assert 0 < schedule.mandatory_window(self.lifetime) <= min(300.0, self.lifetime / 4)
        assert schedule.request_interval(self.lifetime) <= 30.0

    @invariant()
    def only_a_pausing_client_has_no_instant(self) -> None:
        assert self.due_at is None or math.isfinite(self.due_at)
        assert self.due_at is not None or self.policy is UnknownOutcome.PAUSE


busy = settings(max_examples=100, stateful_step_count=30, deadline=None, database=None)

TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = busy


def halved(function: Callable[..., float]) -> Callable[..., float]:
    return lambda now, *given, **named: now + (function(now, *given, **named) - now) / 2


BROKEN: dict[str, tuple[str, Any]] = {
    "no floor between refreshes": ("floor_between", lambda _: 0.0),
    "retries come too early": ("retry_at", halved(schedule.retry_at)),
    "replays outlast the grace": ("GRACE_BUDGET", 5.0),
    "leads are too short": ("refresh_at", lambda _, expires_at, *__, **___: expires_at - 1.0),
    "deadlines are too long": ("LONGEST_READING", 600.0),
    "Retry-After has no cap": ("LONGEST_RETRY_AFTER", 1e9),
}


SLOW_TO_FIND = "replays outlast the grace"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if name == SLOW_TO_FIND else [])
        for name in BROKEN
    ],
)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, broken = BROKEN[name]
    monkeypatch.setattr(schedule, function, broken)
    quick = settings(busy, max_examples=4000, derandomize=True, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(ScheduleMachine, settings=quick)
