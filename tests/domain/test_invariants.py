"""What holds for every outcome, every grant and every sequence of failures."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from refresher.domain.adoption import Attempt
from refresher.domain.clients import Client, UnknownOutcome
from refresher.domain.grants import Fault, Grant, GrantState, Intent
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
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.repairs import repair
from refresher.domain.secret import Secret
from refresher.domain.states import pass_time
from refresher.domain.transition import transition
from tests.domain.world import (
    CLIENT_REJECTED,
    GRACE,
    LIFE,
    MISCONFIGURED,
    NONE,
    NOT_SENT,
    NOW,
    REJECTED,
    REQUEST_REJECTED,
    STRICT,
    THROTTLED,
    UNKNOWN,
    UNTIL_USED,
    answered,
    claimed,
    happened,
    make_client,
    make_grant,
)

outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.floats(1, 1e7).map(lambda seconds: answered(expires_in=seconds)),
    st.just(answered("at-0")),
    st.just(
        RefreshTokenOnly(
            answer=TokenAnswer(access_token=None, refresh_token=Secret("rt-1")), status=200
        )
    ),
    st.sampled_from(
        [NOT_SENT, THROTTLED, UNKNOWN, REJECTED, CLIENT_REJECTED, MISCONFIGURED, REQUEST_REJECTED]
    ),
    st.floats(0, 1e6).map(lambda s: Transient(reason="x", status=503, retry_after=s)),
    st.floats(0, 1e6).map(lambda s: OutcomeUnknown(reason="x", retry_after=s)),
    st.sampled_from(
        [
            TooEarly(error="access_denied", status=400),
            Transient(reason="http_403", status=403, is_own_word=False),
            OutcomeUnknown(reason="unreadable", status=200, body=b"?", may_hold_tokens=True),
            GrantRejected(error="invalid_grant", status=400, needs_person=True),
        ]
    ),
)
rotations = st.sampled_from([STRICT, NONE, UNTIL_USED, GRACE, Rotation(RotationProfile.UNKNOWN)])
clients = st.builds(
    make_client,
    rotations,
    on_unknown_outcome=st.sampled_from(UnknownOutcome),
    survive_outage=st.floats(0, 1e5),
)
grants = st.builds(
    make_grant,
    st.one_of(st.none(), st.floats(-1e6, LIFE)),
    failures=st.integers(0, 30),
    reason=st.sampled_from([None, "refused:invalid_grant", "client_rejected:x", "no_progress"]),
    served_at=st.sampled_from([None, NOW - 5000.0]),
    refused_at=st.sampled_from([None, NOW - 60.0, NOW - 1e5]),
    failing_since=st.sampled_from([None, NOW - 60.0, NOW - 1e5]),
    early_refusals=st.integers(0, 7),
)
attempts_made = st.builds(
    lambda took, draw, fault: replace(happened(took, draw), fault=fault),
    st.floats(0, 30),
    st.floats(0, 0.999),
    st.sampled_from([None, *Fault]),
)


@given(grants, clients, outcomes, st.tuples(st.integers(1, 9), st.floats(0, 1e5)), attempts_made)
def test_every_outcome_keeps_the_invariants(
    grant: Grant,
    client: Client,
    outcome: Outcome,
    open_since: tuple[int, float],
    attempt: Attempt,
) -> None:
    claim = claimed(grant, attempts=open_since[0], age=open_since[1])
    change = transition(claim, client, outcome, attempt)
    after = change.grant
    now = attempt.ended_at
    person_needed = {GrantState.REAUTHORIZATION_REQUIRED, GrantState.PAUSED}
    assert (after.due_at is None) is (after.state in person_needed)
    assert after.due_at is None or after.due_at >= now
    for name in ("id", "uid", "name", "version", "authorization_serial", "adopted_sequence"):
        assert getattr(after, name) == getattr(claim.grant, name)
    if after.state in {GrantState.FRESH, GrantState.DEGRADED}:
        assert after.expires_at is not None
        assert after.expires_at > now
    if after.state is GrantState.EXPIRED:
        assert after.expires_at is not None
        assert after.expires_at <= now
    brings_access = isinstance(outcome, Refreshed)
    if not isinstance(outcome, TooEarly):
        assert after.failures == (0 if brings_access else claim.grant.failures + 1)
    if after.state is not GrantState.FRESH:
        assert after.reason is not None
        assert repair(after) is not None
    assert (change.tokens is not None) is isinstance(outcome, Refreshed | RefreshTokenOnly)
    assert after.since == (now if after.state is not grant.state else grant.since)


@given(
    clients.filter(lambda client: client.policy.on_unknown_outcome is not UnknownOutcome.PAUSE),
    st.lists(st.sampled_from([NOT_SENT, THROTTLED, UNKNOWN]), min_size=2, max_size=12),
    st.one_of(st.none(), st.floats(-1e4, LIFE)),
)
def test_failures_never_become_a_hot_loop(
    client: Client, failures: list[Outcome], left: float | None
) -> None:
    """Of exchanges that all fail, one alone is repeated at once: the first ambiguous one."""
    grant, now, prompt = make_grant(left), NOW, 0
    for outcome in failures:
        earlier = grant.intent
        intent = Intent(
            sequence=grant.attempt_sequence + 1,
            presented=b"stored",
            first_sent_at=earlier.first_sent_at if earlier else now,
            attempts=earlier.attempts + 1 if earlier else 1,
        )
        claim = replace(claimed(grant), grant=replace(grant, intent=intent))
        grant = transition(
            claim, client, outcome, Attempt(sent_at=now, ended_at=now, draw=0.5)
        ).grant
        assert grant.due_at is not None
        prompt += grant.due_at - now < 0.9
        now = grant.due_at
    assert prompt <= 1


@given(grants, st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_passing_time_in_steps_is_passing_it_once(grant: Grant, steps: list[float]) -> None:
    now, stepwise = NOW, grant
    for step in sorted(steps):
        now = NOW + step
        stepwise = pass_time(stepwise, now)
    once = pass_time(grant, now)
    assert (stepwise.state, stepwise.reason) == (once.state, once.reason)
