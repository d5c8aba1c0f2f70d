"""What a failure does to a grant: what stays open, what is final, when it is tried again."""

from dataclasses import replace

import pytest

from refresher.domain.clients import Rotation, RotationProfile, UnknownOutcome
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import (
    Outcome,
    OutcomeUnknown,
    Transient,
)
from refresher.domain.transition import resume_unresolved, transition
from tests.domain.world import (
    CLIENT_REJECTED,
    GRACE,
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
    apply,
    claimed,
    happened,
    make_client,
    make_grant,
)


@pytest.mark.parametrize("outcome", [NOT_SENT, THROTTLED], ids=["not sent", "throttled"])
def test_an_unprocessed_request_ends_its_intent(outcome: Outcome) -> None:
    after = apply(outcome).grant
    assert after.intent is None
    assert (after.state, after.reason, after.failures) == (GrantState.FRESH, None, 1)
    assert after.due_at == NOW + 3.0


@pytest.mark.parametrize("outcome", [NOT_SENT, THROTTLED], ids=["not sent", "throttled"])
def test_an_unprocessed_replay_leaves_the_first_open(outcome: Outcome) -> None:
    after = apply(outcome, make_grant(failures=1), attempts=2, age=9.0).grant
    assert after.intent is not None
    assert (after.intent.attempts, after.intent.first_sent_at) == (1, NOW - 9)
    assert after.due_at is not None
    assert after.due_at > NOW


def test_an_unknown_outcome_leaves_the_intent_open() -> None:
    change = apply(OutcomeUnknown(reason="unreadable", status=200, body=b"<html>"))
    assert change.grant.intent is not None
    assert change.grant.intent.attempts == 1
    assert change.grant.due_at == NOW
    assert change.kept is not None
    assert change.kept.body == b"<html>"


def test_a_halting_client_pauses_the_unknown() -> None:
    client = make_client(on_unknown_outcome=UnknownOutcome.HALT)
    after = apply(UNKNOWN, client=client).grant
    assert (after.state, after.reason, after.due_at) == (GrantState.PAUSED, "outcome_unknown", None)
    assert after.intent is not None


@pytest.mark.parametrize(
    "outcome",
    [
        Transient(reason="x", status=503, retry_after=120.0),
        OutcomeUnknown(reason="x", status=503, retry_after=120.0),
    ],
    ids=["transient", "unknown"],
)
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_retry_after_is_waited_for(outcome: Outcome, attempts: int) -> None:
    after = apply(outcome, attempts=attempts).grant
    assert after.due_at is not None
    assert after.due_at >= NOW + 120


def test_recovery_is_the_unknown_outcome() -> None:
    grant = claimed(make_grant(), age=60.0).grant
    after = resume_unresolved(grant, make_client(), NOW, 0.5)
    assert after == apply(UNKNOWN, age=60.0).grant


@pytest.mark.parametrize(
    ("rotation", "attempts", "reason"),
    [
        (STRICT, 1, "revoked:invalid_grant"),
        (STRICT, 2, "rotation_lost:invalid_grant"),
        (GRACE, 1, "revoked:invalid_grant"),
        (GRACE, 2, "rotation_lost:invalid_grant"),
        (UNTIL_USED, 2, "rotation_lost:invalid_grant"),
        (Rotation(RotationProfile.UNKNOWN), 2, "rotation_lost:invalid_grant"),
    ],
    ids=str,
)
def test_a_rejection_is_final(rotation: Rotation, attempts: int, reason: str) -> None:
    after = apply(REJECTED, client=make_client(rotation), attempts=attempts).grant
    assert (after.state, after.reason) == (GrantState.REAUTHORIZATION_REQUIRED, reason)
    assert (after.due_at, after.intent) == (None, None)
    assert (after.expires_at, after.version) == (NOW + 900, 7)


@pytest.mark.parametrize(
    ("rotation", "attempts", "reason"),
    [(STRICT, 1, "restored_copy"), (STRICT, 2, "rotation_lost"), (NONE, 1, "revoked")],
    ids=str,
)
def test_a_rejection_after_a_restore_says_so(
    rotation: Rotation, attempts: int, reason: str
) -> None:
    client = make_client(rotation)
    claim = replace(claimed(make_grant(), attempts=attempts), is_of_copy=True)
    after = transition(claim, client, REJECTED, happened()).grant
    assert after.reason == f"{reason}:invalid_grant"


@pytest.mark.parametrize("attempts", [1, 2])
def test_without_rotation_a_rejection_is_confirmed(attempts: int) -> None:
    """Some servers say invalid_grant in passing: asked once more, a minute later."""
    client = make_client(NONE)
    first = apply(REJECTED, client=client, attempts=attempts).grant
    assert (first.state, first.reason) == (GrantState.FRESH, "revoked:invalid_grant")
    assert first.due_at is not None
    assert NOW + 60 <= first.due_at <= NOW + 120
    assert first.intent is None
    second = apply(REJECTED, first, client=client).grant
    assert (second.state, second.reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "revoked:invalid_grant",
    )
    healed = apply(answered(), first, client=client).grant
    assert (healed.state, healed.reason) == (GrantState.FRESH, None)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (CLIENT_REJECTED, "client_rejected:invalid_client"),
        (MISCONFIGURED, "misconfigured:invalid_scope"),
    ],
    ids=["client", "configuration"],
)
@pytest.mark.parametrize(
    ("left", "state"),
    [(900.0, GrantState.DEGRADED), (-1.0, GrantState.EXPIRED), (None, GrantState.PENDING)],
    ids=["alive", "expired", "none yet"],
)
def test_what_is_not_the_grants_fault_keeps_it(
    outcome: Outcome, reason: str, left: float | None, state: GrantState
) -> None:
    after = apply(outcome, make_grant(left)).grant
    assert (after.state, after.reason, after.intent) == (state, reason, None)
    assert after.due_at is not None
    assert NOW + 300 <= after.due_at <= NOW + 900


def test_a_blocked_replay_stays_unresolved() -> None:
    after = apply(CLIENT_REJECTED, attempts=2, age=9.0).grant
    assert after.intent is not None
    assert after.intent.attempts == 1


def test_a_bad_request_is_believed_the_third_time() -> None:
    grant = make_grant()
    reasons = []
    for _ in range(3):
        grant = apply(REQUEST_REJECTED, grant).grant
        reasons.append(grant.reason)
        assert grant.due_at is not None
    assert reasons == [None, None, "misconfigured:invalid_request"]
