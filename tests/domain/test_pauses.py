"""Pauses that an operator orders: what they change, what ends them, and what they outlive."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.commit_rule import merge
from refresher.domain.grants import Answer, Grant, GrantKind, GrantState
from refresher.domain.outcomes import Outcome
from refresher.domain.pauses import at_its_end, is_ordered, paused, resumed
from refresher.domain.reasons import LONGEST, Reason
from refresher.domain.requests import answered
from refresher.domain.transition import held_back, resume_unresolved
from tests.domain.world import (
    NOT_SENT,
    NOW,
    REJECTED,
    UNKNOWN,
    apply,
    claimed,
    make_client,
    make_grant,
)
from tests.domain.world import (
    answered as brought,
)

UNTIL = NOW + 7200
FRESH = make_grant(due_at=NOW + 600, adopted_sequence=4)
DEFERRED = apply(UNKNOWN, client=make_client(on_unknown_outcome=UnknownOutcome.DEFER)).grant
DECIDING = apply(UNKNOWN, client=make_client(on_unknown_outcome=UnknownOutcome.PAUSE)).grant
LOST = apply(REJECTED).grant
DOUBTED = apply(REJECTED, make_grant(served_at=NOW - 60)).grant


def pause(grant: Grant, until: float | None = None, now: float = NOW) -> Grant:
    return paused(grant, now, until=until, reason=Reason.PAUSED_HERE)


def committed(outcome: Outcome, stored: Grant, **parts: Any) -> Grant:
    """The outcome of an exchange that was claimed while FRESH, as it is merged into STORED."""
    claim = claimed(FRESH)
    change = apply(outcome, FRESH, **parts).grant
    stored = replace(stored, attempt_sequence=5, intent=claim.intent)
    return merge(stored, claim.grant, change, claim.intent)


@pytest.mark.parametrize("until", [None, UNTIL])
def test_a_pause_keeps_everything_but_the_next_attempt(until: float | None) -> None:
    after = pause(FRESH, until)
    assert (after.state, after.reason, after.since) == (GrantState.PAUSED, "paused_here", NOW)
    assert after.due_at == until
    undone = replace(after, state=FRESH.state, reason=None, since=FRESH.since, due_at=FRESH.due_at)
    assert undone == FRESH


def test_another_order_moves_the_end() -> None:
    first = pause(FRESH, UNTIL)
    again = pause(first, None, NOW + 60)
    assert (again.due_at, again.since, again.reason) == (None, NOW, "paused_here")


@pytest.mark.parametrize(
    "grant",
    [
        LOST,
        DECIDING,
        replace(make_grant(None), refresh_token_fingerprint=None),
        replace(FRESH, kind=GrantKind.STATIC, refresh_token_fingerprint=None, due_at=None),
    ],
    ids=["lost", "deciding", "never authorized", "static"],
)
def test_what_sends_nothing_is_left_as_it_is(grant: Grant) -> None:
    assert pause(grant, UNTIL) == grant


def test_what_was_told_before_is_told_again() -> None:
    narrowed = replace(FRESH, reason="scope_narrowed:write")
    held = pause(narrowed)
    assert held.reason == "paused_here:scope_narrowed:write"
    assert resumed(held, NOW + 9).reason == "scope_narrowed:write"
    long = pause(replace(FRESH, reason="unreachable:" + "x" * 200))
    assert len(long.reason or "") == LONGEST


@pytest.mark.parametrize("waiting", [DEFERRED, DOUBTED, apply(NOT_SENT).grant])
def test_no_pause_brings_an_attempt_forward(waiting: Grant) -> None:
    assert waiting.due_at is not None
    assert pause(waiting, NOW + 1).due_at == waiting.due_at
    assert pause(waiting, waiting.due_at + 5).due_at == waiting.due_at + 5


@pytest.mark.parametrize(
    ("left", "state", "reason"),
    [
        (900.0, GrantState.FRESH, None),
        (-1.0, GrantState.EXPIRED, "awaiting_refresh"),
        (None, GrantState.PENDING, "awaiting_refresh"),
    ],
)
def test_a_resumed_grant_is_due_in_the_state_of_its_token(
    left: float | None, state: GrantState, reason: str | None
) -> None:
    held = pause(make_grant(left, due_at=NOW), UNTIL)
    after = resumed(held, NOW)
    assert (after.state, after.reason, after.due_at) == (state, reason, NOW)


def test_an_unresolved_exchange_stays_open_when_it_is_resumed() -> None:
    after = resumed(DECIDING, NOW + 5)
    assert (after.state, after.due_at) == (GrantState.FRESH, NOW + 5)
    assert (after.reason, after.intent) == ("outcome_unknown:timeout", DECIDING.intent)


def test_only_its_end_ends_a_pause_by_itself() -> None:
    held = pause(FRESH, UNTIL)
    assert at_its_end(held, UNTIL - 1) == held
    assert at_its_end(held, UNTIL) == resumed(held, UNTIL)
    for grant in (pause(FRESH), DECIDING, FRESH):
        assert at_its_end(grant, UNTIL + 1e9) == grant


@pytest.mark.parametrize("until", [None, UNTIL])
def test_an_exchange_that_was_out_brings_its_tokens_into_the_pause(until: float | None) -> None:
    held = pause(FRESH, until)
    after = committed(brought("at-1"), held)
    assert (after.state, after.reason, after.since) == (GrantState.PAUSED, "paused_here", NOW)
    assert (after.due_at, after.expires_at) == (until, NOW + 3600)
    assert after.intent is None


@pytest.mark.parametrize("outcome", [UNKNOWN, NOT_SENT])
def test_a_failure_waits_in_the_pause(outcome: Outcome) -> None:
    after = committed(outcome, pause(FRESH))
    assert is_ordered(after)
    assert (after.due_at, after.failures) == (None, 1)
    assert (after.reason or "").startswith("paused_here:")
    assert committed(outcome, pause(FRESH, NOW)).due_at == apply(outcome, FRESH).grant.due_at


def test_what_a_person_must_know_goes_before_the_pause() -> None:
    lost = committed(REJECTED, pause(FRESH, UNTIL))
    assert (lost.state, lost.due_at) == (GrantState.REAUTHORIZATION_REQUIRED, None)
    deciding = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)
    after = committed(UNKNOWN, pause(FRESH, UNTIL), client=deciding)
    assert (after.state, after.reason) == (GrantState.PAUSED, "outcome_unknown:timeout")
    assert after.due_at is None, "the end of the order must not send what an operator decides on"


def test_nothing_sent_leaves_the_pause() -> None:
    claim, held = claimed(FRESH), pause(FRESH, UNTIL)
    stored = replace(held, attempt_sequence=5, intent=claim.intent)
    after = merge(stored, claim.grant, held_back(claim).grant, claim.intent)
    assert (after.state, after.due_at, after.intent) == (GrantState.PAUSED, UNTIL, None)


def test_recovery_of_a_paused_grant_waits() -> None:
    stored = pause(claimed(FRESH).grant)
    after = resume_unresolved(stored, make_client(), NOW + 9, 0.5)
    assert (after.state, after.due_at, after.intent) == (GrantState.PAUSED, None, stored.intent)
    assert after.reason == "paused_here:outcome_unknown:restarted"
    again = resume_unresolved(after, make_client(), NOW + 99, 0.5)
    assert again.reason == after.reason


def test_a_consumer_ends_no_pause_and_reads_how_long_it_lasts() -> None:
    held = pause(FRESH, UNTIL)
    after = answered(held, held.version, NOW)
    assert replace(after, rejection=None) == held
    assert after.rejection is not None
    assert (after.rejection.answer, after.rejection.until) == (Answer.PAUSED, UNTIL)
