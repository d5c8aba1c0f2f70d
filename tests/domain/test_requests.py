"""What consumers may ask for: a refresh sooner, and nothing that an operator or a rule forbids."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Answer, Grant, GrantKind, GrantState, Rejection
from refresher.domain.outcomes import TooEarly
from refresher.domain.quirks import Rotation
from refresher.domain.reasons import Reason
from refresher.domain.requests import Rejected, answered, current_of
from refresher.domain.transition import held_back
from tests.domain.world import (
    CLIENT_REJECTED,
    LIFE,
    MISCONFIGURED,
    NONE,
    NOT_SENT,
    NOW,
    REJECTED,
    STRICT,
    THROTTLED,
    UNKNOWN,
    apply,
    claimed,
    make_client,
    make_grant,
)
from tests.domain.world import answered as brought

VERSION = 7
TOO_EARLY = TooEarly(error="too_early", status=400)


def fresh(age: float = 1800.0, **parts: Any) -> Grant:
    """A grant whose token of an hour was issued AGE seconds ago, to be refreshed in a while."""
    return make_grant(LIFE - age, **{"due_at": NOW + 2000} | parts)


def reject(grant: Grant, now: float = NOW) -> Grant:
    return answered(grant, grant.version, now)


def renewed(grant: Grant, now: float) -> Grant:
    """GRANT with its next token, issued at NOW."""
    after = apply(brought(), grant).grant
    return replace(
        after,
        version=grant.version + 1,
        issued_at=now,
        expires_at=now + LIFE,
        due_at=now + LIFE * 0.75,
    )


def test_a_rejection_makes_a_grant_due() -> None:
    after = reject(fresh())
    assert (after.due_at, after.requested_at) == (NOW, NOW)
    assert after.rejection == Rejection(VERSION, Answer.ACCEPTED, NOW)
    assert (after.state, after.reason) == (GrantState.FRESH, None)


def test_saying_it_again_changes_nothing() -> None:
    accepted = reject(fresh())
    deferred = reject(replace(fresh(), requested_at=NOW - 10))
    assert reject(accepted, NOW + 5) == accepted
    assert reject(deferred, NOW + 5) == deferred
    held = reject(fresh(state=GrantState.PAUSED, due_at=None))
    assert reject(held, NOW + 5) == held


def test_what_is_due_is_never_made_later() -> None:
    overdue = fresh(due_at=NOW - 10)
    assert reject(overdue).due_at == NOW - 10
    soon = replace(fresh(), due_at=NOW + 5, requested_at=NOW - 10)
    after = reject(soon)
    assert after.due_at == NOW + 5
    assert after.rejection == Rejection(VERSION, Answer.DEFERRED, NOW + 5)


def opened(policy: UnknownOutcome, *, rotation: Rotation = STRICT) -> Grant:
    """A grant whose last answer was lost."""
    client = make_client(rotation, on_unknown_outcome=policy)
    return apply(UNKNOWN, fresh(), client=client, attempts=2).grant


UNTOUCHABLE = {
    "awaiting an operator": (opened(UnknownOutcome.PAUSE), Answer.PAUSED),
    "deferred": (opened(UnknownOutcome.DEFER), Answer.EXCHANGE_OPEN),
    "replayed": (opened(UnknownOutcome.REPLAY), Answer.EXCHANGE_OPEN),
    "replayed freely": (opened(UnknownOutcome.REPLAY, rotation=NONE), Answer.EXCHANGE_OPEN),
    "in flight": (claimed(fresh(due_at=NOW)).grant, Answer.EXCHANGE_OPEN),
    "unreachable": (apply(NOT_SENT, fresh()).grant, Answer.BACKING_OFF),
    "throttled": (apply(THROTTLED, fresh()).grant, Answer.BACKING_OFF),
    "client rejected": (apply(CLIENT_REJECTED, fresh()).grant, Answer.BACKING_OFF),
    "misconfigured": (apply(MISCONFIGURED, fresh()).grant, Answer.BACKING_OFF),
    "too early": (apply(TOO_EARLY, fresh()).grant, Answer.BACKING_OFF),
    "no progress": (apply(brought("at-0", expires_in=1800.0), fresh()).grant, Answer.BACKING_OFF),
    "doubted": (apply(REJECTED, fresh(served_at=NOW - 60)).grant, Answer.DOUBTED),
    "confirmed under none": (
        apply(REJECTED, fresh(), client=make_client(NONE)).grant,
        Answer.DOUBTED,
    ),
    "lost": (apply(REJECTED, fresh()).grant, Answer.PERSON_NEEDED),
}


@pytest.mark.parametrize(("grant", "answer"), UNTOUCHABLE.values(), ids=UNTOUCHABLE)
def test_a_rejection_leaves_what_has_a_rule_of_its_own(grant: Grant, answer: Answer) -> None:
    after = reject(grant)
    until = None if answer in {Answer.PAUSED, Answer.PERSON_NEEDED} else grant.due_at
    assert after.rejection == Rejection(VERSION, answer, until)
    assert replace(after, rejection=None) == grant


def test_nothing_sent_leaves_the_request() -> None:
    grant = reject(fresh())
    after = held_back(claimed(grant)).grant
    assert after.rejection == grant.rejection
    assert reject(after, NOW + 1) == after


def test_a_static_token_has_to_be_replaced_by_somebody() -> None:
    grant = replace(fresh(due_at=None), kind=GrantKind.STATIC, refresh_token_fingerprint=None)
    after = reject(grant)
    assert after.state is GrantState.REAUTHORIZATION_REQUIRED
    assert (after.reason, after.since) == (Reason.TOKEN_REJECTED, NOW)
    assert after.rejection == Rejection(VERSION, Answer.PERSON_NEEDED, None)
    assert reject(after, NOW + 5) == after


def test_a_token_without_a_refresh_token_needs_a_login() -> None:
    grant = replace(fresh(due_at=None), refresh_token_fingerprint=None)
    after = reject(grant)
    assert after.state is GrantState.REAUTHORIZATION_REQUIRED
    assert after.reason == Reason.NO_REFRESH_TOKEN


@pytest.mark.parametrize(
    ("versions", "earlier", "current"),
    [
        ({7}, None, 7),
        ({6}, None, None),
        ({6, 7, 8}, None, 7),
        ({8}, None, None),
        ({2**53}, None, None),
        ({8}, 8, 8),
        ({9}, 8, None),
        ({6}, 6, None),
    ],
)
def test_only_what_can_be_read_can_be_rejected(
    versions: set[int], earlier: int | None, current: int | None
) -> None:
    assert current_of(fresh(), Rejected(frozenset(versions), "", earlier)) == current


def test_a_grant_that_has_no_token_yet_has_none_to_reject() -> None:
    assert current_of(make_grant(None), Rejected(frozenset({0}))) is None
    assert current_of(make_grant(None), Rejected(frozenset({5}), "", 5)) == 5


def test_a_rejection_inside_the_interval_waits_for_its_end() -> None:
    first = renewed(reject(fresh()), NOW + 1)
    second = reject(first, NOW + 2)
    assert second.due_at == NOW + 30
    assert second.rejection == Rejection(VERSION + 1, Answer.DEFERRED, NOW + 30)


def test_rejecting_young_tokens_doubles_the_interval_up_to_half_a_life() -> None:
    grant, now, waits = fresh(), NOW, []
    for _ in range(10):
        grant = reject(grant, now)
        assert grant.due_at is not None
        waits.append(round(grant.due_at - now))
        now = grant.due_at
        grant = renewed(grant, now)
    assert waits == [0, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_rejecting_tokens_of_some_age_does_not() -> None:
    grant = replace(fresh(), requested_at=NOW - 10, request_interval=30.0)
    assert reject(grant).request_interval == 30.0
    young = replace(fresh(age=899.0), requested_at=NOW - 10, request_interval=30.0)
    assert reject(young).request_interval == 60.0


def test_a_life_that_nobody_rejects_halves_the_interval() -> None:
    grant = fresh(request_interval=240.0)
    halved = []
    for _ in range(4):
        grant = renewed(grant, NOW)
        halved.append(grant.request_interval)
    assert halved == [120.0, 60.0, None, None]
    rejected = renewed(reject(fresh(age=2000, request_interval=240.0)), NOW)
    assert rejected.request_interval == 240.0
    assert rejected.rejection is None


def test_a_short_life_is_asked_for_sooner() -> None:
    grant = replace(fresh(), issued_at=NOW - 20, expires_at=NOW + 20, requested_at=NOW - 1)
    assert reject(grant).due_at == NOW + 9


def test_a_clock_set_back_mutes_nobody() -> None:
    assert reject(fresh(requested_at=NOW + 5000)).due_at == NOW


def test_a_refresh_that_did_not_happen_is_asked_for_again() -> None:
    """Whatever moved the accepted refresh away, the next word brings it back."""
    accepted = reject(fresh())
    assert reject(replace(accepted, due_at=NOW + 2000), NOW + 60).due_at == NOW + 60
