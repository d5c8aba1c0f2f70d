"""Grants that renew themselves: nothing is lost, nothing is spent, and no person is asked for."""

from dataclasses import replace
from typing import get_args

import pytest

from refresher.domain.grants import Fault, Grant, GrantKind, GrantState
from refresher.domain.outcomes import (
    GrantRejected,
    Outcome,
    OutcomeUnknown,
    RefreshTokenOnly,
    SubjectMissing,
    TokenAnswer,
)
from refresher.domain.quirks import RotationProfile
from refresher.domain.renewal import Terms
from refresher.domain.repairs import repair
from refresher.domain.secret import Secret
from refresher.domain.self_renewing import as_it_acts
from refresher.domain.transition import resume_unresolved
from tests.domain.paths import OUTCOMES
from tests.domain.world import NOW, REJECTED, answered, apply, claimed, make_client, make_grant

KINDS = [kind for kind in GrantKind if kind.renews_itself]

GRANTS = [
    replace(make_grant(served_at=NOW - 60), kind=kind, terms=Terms(subject="other"))
    for kind in KINDS
]
each_kind = pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: str(grant.kind))


def test_a_person_is_asked_for_two_kinds_alone() -> None:
    assert set(GrantKind) - set(KINDS) == {GrantKind.REFRESHABLE, GrantKind.STATIC}


@each_kind
def test_no_answer_takes_a_person(grant: Grant) -> None:
    assert {type(outcome) for outcome in OUTCOMES} == set(get_args(Outcome))
    for outcome in OUTCOMES:
        for attempts in (1, 2):
            change = apply(outcome, replace(grant, refused_at=NOW - 9e5), attempts=attempts)
            assert change.grant.state is not GrantState.REAUTHORIZATION_REQUIRED, outcome
            told = repair(replace(change.grant, state=GrantState.EXPIRED)) or ""
            assert "login" not in told, told
            assert "refresh token" not in told, told


@each_kind
def test_a_refusal_is_told_at_once_and_asked_again_at_a_growing_distance(grant: Grant) -> None:
    waits = []
    after = replace(grant, served_at=None)
    for _ in range(5):
        after = apply(REJECTED, after).grant
        assert after.reason == "refused:invalid_grant"
        assert after.state is GrantState.DEGRADED
        assert after.due_at is not None
        waits.append(after.due_at - NOW)
    assert waits == sorted(waits)
    assert waits[0] >= 120
    assert waits[-1] >= 3600


@each_kind
def test_a_word_that_asks_for_a_person_does_not_either(grant: Grant) -> None:
    outcome = GrantRejected(error="interaction_required", status=400, needs_person=True)
    assert apply(outcome, grant).grant.state is GrantState.DEGRADED


@each_kind
def test_a_lost_answer_is_asked_for_again_as_any_failure_is(grant: Grant) -> None:
    lost = apply(OutcomeUnknown(reason="timeout"), grant).grant
    assert lost.state is GrantState.FRESH
    assert lost.due_at is not None
    refused = apply(REJECTED, replace(lost, intent=None), attempts=2).grant
    assert refused.status_reason == "refused", "no rotation was lost"


@each_kind
def test_what_a_dead_process_left_open_is_asked_for_again(grant: Grant) -> None:
    resumed = resume_unresolved(claimed(grant).grant, make_client(), NOW, 0.5)
    assert resumed.state is GrantState.FRESH
    assert resumed.due_at is not None


@each_kind
def test_no_refresh_token_comes_into_the_vault(grant: Grant) -> None:
    change = apply(answered(), grant)
    assert change.tokens is not None
    assert change.tokens.access_token == Secret("at-1")
    assert change.tokens.refresh_token is None
    alone = TokenAnswer(access_token=None, refresh_token=Secret("rt-1"))
    change = apply(RefreshTokenOnly(answer=alone, status=200), grant)
    assert change.tokens is None
    assert change.grant.reason == "server_busy:no_access_token"


def test_one_that_waits_for_its_subject_says_so_and_blames_no_endpoint() -> None:
    [grant] = [each for each in GRANTS if each.kind is GrantKind.EXCHANGE]
    after = apply(SubjectMissing(subject="other"), grant).grant
    assert after.reason == "subject_missing:other"
    assert after.fault is Fault.GRANT
    assert after.intent is None
    assert "refresher status other" in str(repair(replace(after, state=GrantState.EXPIRED)))


def test_a_client_is_as_its_server_is_towards_everybody_else() -> None:
    client = make_client()
    assert as_it_acts(client, make_grant()) is client
    client = make_client(refresh_token_idle=9.0)
    changed = as_it_acts(client, GRANTS[0])
    assert changed.quirks.refresh_token_idle is None
    assert changed.quirks.rotation.profile is RotationProfile.NONE
