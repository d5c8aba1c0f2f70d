"""What a failure does to a grant: what stays open, what is final, when it is tried again."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.adoption import Attempt
from refresher.domain.clients import Client, UnknownOutcome
from refresher.domain.grants import Fault, Grant, GrantState
from refresher.domain.outcomes import (
    SECRET_REPLACED,
    Outcome,
    OutcomeUnknown,
    RequestRejected,
    TooEarly,
    Transient,
)
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.reasons import Reason
from refresher.domain.repairs import repair
from refresher.domain.transition import resume_unresolved, transition
from tests.domain.world import (
    CLIENT_REJECTED,
    GRACE,
    MISCONFIGURED,
    NONE,
    NOT_SENT,
    NOW,
    PROOF_DEMANDED,
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
    assert (after.state, after.failures, after.fault) == (GrantState.FRESH, 1, Fault.ENDPOINT)
    assert after.status_reason in {Reason.UNREACHABLE, Reason.SERVER_BUSY}
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


def test_a_pausing_client_pauses_the_unknown() -> None:
    client = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)
    after = apply(UNKNOWN, client=client).grant
    assert (after.state, after.due_at) == (GrantState.PAUSED, None)
    assert after.reason == "outcome_unknown:timeout"
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
    assert after == apply(OutcomeUnknown(reason="restarted"), age=60.0).grant


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
def test_a_seed_never_served_is_lost_at_once(
    rotation: Rotation, attempts: int, reason: str
) -> None:
    after = apply(REJECTED, client=make_client(rotation), attempts=attempts).grant
    assert (after.state, after.reason) == (GrantState.REAUTHORIZATION_REQUIRED, reason)
    assert (after.due_at, after.intent) == (None, None)
    assert (after.expires_at, after.version) == (NOW + 900, 7)


PROOFS = {"offers_proof": True}


def perhaps_bound(
    *,
    outcome: Outcome = REJECTED,
    witness_at: float | None = None,
    client: Client | None = None,
    token_type: str = "Bearer",
    **parts: Any,
) -> Grant:
    """A grant refused for a month whose server knows DPoP."""
    parts = {"served_at": None, "refused_at": NOW - 30 * 86_400, "refusals": 700} | parts
    grant = make_grant(**parts)
    claim = replace(claimed(grant), witness_at=witness_at, token_type=token_type)
    return transition(claim, client or make_client(STRICT, **PROOFS), outcome, happened()).grant


@pytest.mark.parametrize("rotation", [STRICT, NONE], ids=str)
def test_what_may_be_bound_to_a_key_is_no_seed_that_is_dead(rotation: Rotation) -> None:
    """A bare invalid_grant for want of a DPoP proof; the refresh token is as good as ever."""
    client = make_client(rotation, **PROOFS)
    first = perhaps_bound(client=client, refused_at=None, refusals=0)
    assert (first.state, first.reason) == (GrantState.DEGRADED, "refused:dpop")
    assert first.due_at is not None
    assert NOW + 120 <= first.due_at <= NOW + 132
    again = perhaps_bound(client=client)
    assert (again.state, again.reason, again.refusals) == (first.state, "refused:dpop", 701)
    assert again.due_at is not None
    assert NOW + 3600 <= again.due_at <= NOW + 3960
    told = repair(again) or ""
    assert [word for word in ("DPoP", "refresher login acme", "asks") if word not in told] == []


def test_the_type_of_an_imported_access_token_tells_of_keys_too() -> None:
    bearer = make_client(STRICT)
    assert perhaps_bound(client=bearer, token_type="DPoP").reason == "refused:dpop"
    assert perhaps_bound(client=bearer).reason == "revoked:invalid_grant"


@pytest.mark.parametrize(
    "told",
    [
        {"witness_at": NOW - 60},
        {"outcome": replace(REJECTED, needs_person=True)},
        {"outcome": replace(REJECTED, is_explained=True)},
        {"outcome": replace(REJECTED, error="token_revoked")},
        {"served_at": NOW - 40 * 86_400},
    ],
    ids=["another is served", "a person must act", "in prose", "another word", "served here"],
)
def test_a_refusal_that_means_no_proof_is_believed(told: dict[str, Any]) -> None:
    after = perhaps_bound(**told)
    assert after.state is GrantState.REAUTHORIZATION_REQUIRED
    assert after.status_reason == "revoked"


SERVED = {"served_at": NOW - 3000.0}


@pytest.mark.parametrize("rotation", [STRICT, GRACE, UNTIL_USED, NONE], ids=str)
def test_a_grant_that_was_served_is_doubted_before_it_is_dead(rotation: Rotation) -> None:
    after = apply(REJECTED, make_grant(**SERVED), client=make_client(rotation)).grant
    assert (after.state, after.reason) == (GrantState.DEGRADED, "refused:invalid_grant")
    assert (after.refused_at, after.refusals, after.intent) == (NOW, 1, None)
    assert after.due_at is not None
    assert NOW + 120 <= after.due_at <= NOW + 132
    assert (after.expires_at, after.version) == (NOW + 900, 7)


@pytest.mark.parametrize("rotation", [STRICT, GRACE, UNTIL_USED], ids=str)
def test_after_an_open_exchange_a_served_grant_is_lost_at_once(rotation: Rotation) -> None:
    """What is gone is the successor, and no patience brings it back."""
    after = apply(REJECTED, make_grant(**SERVED), client=make_client(rotation), attempts=2).grant
    assert (after.state, after.status_reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        Reason.ROTATION_LOST,
    )


def test_words_that_ask_for_a_person_are_not_doubted() -> None:
    outcome = replace(REJECTED, needs_person=True)
    after = apply(outcome, make_grant(**SERVED)).grant
    assert (after.state, after.due_at) == (GrantState.REAUTHORIZATION_REQUIRED, None)


@pytest.mark.parametrize(
    ("since", "witness_at", "is_lost"),
    [
        (60.0, NOW - 1, False),
        (1800.0, NOW - 1, True),
        (1800.0, NOW - 1801, False),
        (1800.0, None, False),
        (86_400.0, None, True),
    ],
    ids=["too soon", "witnessed", "served before", "alone", "after a day"],
)
def test_a_doubt_ends_with_time_and_a_witness(
    since: float, witness_at: float | None, *, is_lost: bool
) -> None:
    grant = make_grant(refused_at=NOW - since, refusals=3, reason="refused:x", **SERVED)
    claim = replace(claimed(grant), witness_at=witness_at)
    after = transition(claim, make_client(), REJECTED, happened()).grant
    assert (after.state is GrantState.REAUTHORIZATION_REQUIRED) is is_lost
    if is_lost:
        assert (after.reason, after.due_at) == ("revoked:invalid_grant", None)
        assert (after.refused_at, after.refusals) == (None, 0)
    else:
        assert (after.refused_at, after.refusals) == (NOW - since, 4)


@pytest.mark.parametrize("outcome", [NOT_SENT, THROTTLED, UNKNOWN], ids=["unsent", "later", "?"])
def test_a_doubt_outlives_what_says_nothing_of_it(outcome: Outcome) -> None:
    grant = make_grant(refused_at=NOW - 60, refusals=1, reason="refused:x", **SERVED)
    after = apply(outcome, grant).grant
    assert (after.refused_at, after.refusals, after.reason) == (NOW - 60, 1, "refused:x")
    assert after.state is GrantState.DEGRADED


def test_an_answer_ends_a_doubt() -> None:
    grant = make_grant(refused_at=NOW - 60, refusals=1, reason="refused:x", **SERVED)
    after = apply(answered(), grant).grant
    assert (after.state, after.reason) == (GrantState.FRESH, None)
    assert (after.refused_at, after.refusals, after.served_at) == (None, 0, NOW)


LOST: dict[str, Any] = {
    "state": GrantState.REAUTHORIZATION_REQUIRED,
    "reason": "revoked:invalid_grant",
    "due_at": NOW,
    "refused_at": NOW,
    **SERVED,
}


def test_a_lost_grant_asked_for_again_and_refused_is_as_lost_as_before() -> None:
    grant = make_grant(**LOST)
    after = apply(REJECTED, grant).grant
    assert (after.state, after.reason, after.since) == (grant.state, grant.reason, grant.since)
    assert (after.due_at, after.intent, after.refused_at) == (None, None, None)


def test_a_lost_grant_asked_for_again_and_served_is_fresh() -> None:
    after = apply(answered(), make_grant(**LOST)).grant
    assert (after.state, after.reason) == (GrantState.FRESH, None)


@pytest.mark.parametrize("outcome", [NOT_SENT, THROTTLED, UNKNOWN], ids=["unsent", "later", "?"])
def test_a_lost_grant_that_could_not_be_asked_for_is_asked_for_again(outcome: Outcome) -> None:
    grant = make_grant(**LOST)
    after = apply(outcome, grant).grant
    assert (after.state, after.reason) == (grant.state, grant.reason)
    assert after.due_at is not None


@pytest.mark.parametrize(
    ("rotation", "attempts", "reason"),
    [(STRICT, 1, "restored_copy"), (STRICT, 2, "rotation_lost"), (NONE, 1, "refused")],
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
    assert (first.state, first.reason) == (GrantState.DEGRADED, "refused:invalid_grant")
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


def test_what_a_search_found_has_to_prove_itself() -> None:
    odd = answered(is_searched=True)
    change = apply(odd)
    assert change.tokens is not None
    assert change.tokens.on_probation
    assert not apply(answered()).tokens.on_probation  # type: ignore[union-attr]  # tokens came


FOUND: dict[str, Any] = {"predecessor_fingerprint": b"before", "on_probation": True, **SERVED}


@pytest.mark.parametrize(
    ("rotation", "rotated", "is_safe"),
    [
        ("none", 3000.0, True),
        ("until_used", 3000.0, True),
        ("grace(60)", 5.0, True),
        ("grace(60)", 3000.0, False),
        ("strict", 5.0, False),
        ("unknown", 5.0, False),
    ],
)
def test_a_refused_find_is_doubted_where_its_predecessor_could_end_the_family(
    rotation: str, rotated: float, *, is_safe: bool
) -> None:
    client = make_client(Rotation.parse(rotation))
    change = apply(
        REJECTED, make_grant(refresh_token_obtained_at=NOW - rotated, **FOUND), client=client
    )
    assert change.restores_predecessor is is_safe
    assert change.grant.on_probation is not is_safe
    assert (change.grant.refused_at is None) is is_safe


def test_a_find_that_is_refused_for_good_gives_way_to_its_predecessor() -> None:
    doubt: dict[str, Any] = {"refused_at": NOW - 1800.0, "refusals": 3, "reason": "refused:x"}
    claim = replace(claimed(make_grant(**FOUND, **doubt)), witness_at=NOW - 1)
    change = transition(claim, make_client(STRICT), REJECTED, happened())
    assert change.restores_predecessor
    assert change.grant.due_at == NOW
    assert change.grant.state is not GrantState.REAUTHORIZATION_REQUIRED


def test_a_refused_find_gives_way_to_its_predecessor_once() -> None:
    change = apply(replace(REJECTED, needs_person=True), make_grant(**FOUND))
    after = change.grant
    assert change.restores_predecessor
    assert (after.refresh_token_fingerprint, after.due_at) == (b"before", NOW)
    assert after.intent is not None
    assert (after.intent.presented, after.intent.attempts) == (b"before", 1)
    claim = claimed(replace(after, on_probation=False), attempts=2)
    lost = transition(claim, make_client(), REJECTED, happened()).grant
    assert lost.status_reason == Reason.ROTATION_LOST, "its successor went into the odd answer"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (CLIENT_REJECTED, "client_rejected:invalid_client"),
        (MISCONFIGURED, "misconfigured:invalid_scope"),
        (PROOF_DEMANDED, "proof_demanded:invalid_grant"),
    ],
    ids=["client", "configuration", "proof"],
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


@pytest.mark.parametrize("error", ["invalid_request", "unrecognized_error"])
def test_an_odd_word_is_believed_after_ten_minutes(error: str) -> None:
    """However often it is said in a second: Hydra says it in passing."""
    outcome = RequestRejected(error=error, status=400)
    grant, now = make_grant(), NOW
    for _ in range(20):
        grant = apply(outcome, grant).grant
        assert grant.status_reason == Reason.REQUEST_REJECTED
    while grant.status_reason == Reason.REQUEST_REJECTED:
        now += 60.0
        attempt = Attempt(sent_at=now, ended_at=now, draw=0.5)
        grant = transition(claimed(grant), make_client(), outcome, attempt).grant
        assert now - NOW <= 600
    assert now - NOW == 600
    assert grant.reason == f"misconfigured:{error}"


def test_another_failure_in_between_begins_the_count_anew() -> None:
    grant = apply(REQUEST_REJECTED).grant
    grant = apply(NOT_SENT, grant).grant
    later = Attempt(sent_at=NOW + 900, ended_at=NOW + 900, draw=0.5)
    after = transition(claimed(grant), make_client(), REQUEST_REJECTED, later).grant
    assert after.status_reason == Reason.REQUEST_REJECTED


def test_a_gateways_word_leaves_the_exchange_open_in_name_only() -> None:
    """Nobody knows who stood behind it; but nothing is replayed at once."""
    gateway = Transient(reason="http_403", status=403, is_own_word=False)
    after = apply(gateway, make_grant(**SERVED)).grant
    assert after.intent is not None
    assert after.due_at == apply(THROTTLED, make_grant(**SERVED)).grant.due_at
    assert after.reason == "unexplained:http_403"
    refused = apply(REJECTED, after, attempts=2).grant
    assert refused.status_reason == Reason.ROTATION_LOST


def test_a_refusal_that_goes_on_without_a_word_is_told() -> None:
    gateway = Transient(reason="http_400", status=400, is_own_word=False)
    first = apply(gateway).grant
    assert first.state is GrantState.FRESH
    attempt = replace(happened(), sent_at=NOW + 300, ended_at=NOW + 300, fault=Fault.GRANT)
    after = transition(claimed(first), make_client(), gateway, attempt).grant
    assert after.state is GrantState.DEGRADED


@pytest.mark.parametrize("rotation", [STRICT, Rotation(RotationProfile.UNKNOWN)], ids=str)
@pytest.mark.parametrize(("left", "wait"), [(900.0, 600.0), (-5.0, 0.0), (None, 0.0)])
def test_an_answer_that_may_hold_tokens_is_not_asked_for_at_once(
    rotation: Rotation, left: float | None, wait: float
) -> None:
    outcome = OutcomeUnknown(reason="x", status=200, body=b"?", may_hold_tokens=True)
    change = apply(outcome, make_grant(left), client=make_client(rotation))
    assert change.grant.due_at == NOW + wait
    assert change.grant.reason == "answer_kept:x"
    assert change.kept is not None


def test_where_a_replay_costs_nothing_an_odd_answer_is_asked_for_at_once() -> None:
    outcome = OutcomeUnknown(reason="x", status=200, body=b"?", may_hold_tokens=True)
    assert apply(outcome, client=make_client(GRACE)).grant.due_at == NOW


def test_a_refresh_that_came_too_early_is_nobodys_failure() -> None:
    grant = make_grant()
    change = apply(TooEarly(error="access_denied", status=400), grant)
    after = change.grant
    assert (after.state, after.failures, after.fault, after.intent) == (
        GrantState.FRESH,
        0,
        None,
        None,
    )
    assert (after.early_refusals, after.due_at) == (1, NOW + 450)
    assert "refresh_window" in change.warnings[0]
    assert not apply(TooEarly(error="x", status=400), after).warnings


def test_a_doubt_is_told_on_where_its_question_came_too_early() -> None:
    doubted = make_grant(refused_at=NOW - 60.0, state=GrantState.DEGRADED, failures=1)
    after = apply(TooEarly(error="access_denied", status=400), doubted).grant
    assert (after.state, after.refused_at) == (GrantState.DEGRADED, NOW - 60.0)


def test_a_word_about_the_client_can_be_a_grants_own() -> None:
    attempt = replace(happened(), fault=Fault.GRANT)
    own = transition(claimed(make_grant()), make_client(), CLIENT_REJECTED, attempt).grant
    assert (own.reason, own.fault) == ("not_authorized:invalid_client", Fault.GRANT)
    assert own.state is GrantState.DEGRADED


def test_a_replaced_secret_is_tried_at_once() -> None:
    after = apply(Transient(reason=SECRET_REPLACED, status=401)).grant
    assert (after.due_at, after.intent) == (NOW, None)
