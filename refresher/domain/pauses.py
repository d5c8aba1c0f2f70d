"""Pauses that an operator orders: nothing is sent for a grant until he, or their end, says so.

Pure. Its current token stays published meanwhile. What was told of the grant before stands
behind the colon of its reason, and is told again afterwards.
"""

from dataclasses import replace

from refresher.domain.adoption import in_state
from refresher.domain.grants import Grant, GrantState
from refresher.domain.reasons import Reason, worded
from refresher.domain.states import by_time

ORDERED = (Reason.PAUSED_HERE, Reason.EXPORTED_HERE)
"""Reasons of the pauses that an operator has ordered."""

OVER = "its end has come"
"""Why a pause ended that nobody ended, as it is logged."""


def is_ordered(grant: Grant) -> bool:
    """Whether an operator has paused GRANT; else what paused it waits for his decision."""
    return grant.state is GrantState.PAUSED and grant.status_reason in ORDERED


def paused(grant: Grant, now: float, *, until: float | None, reason: str) -> Grant:
    """GRANT on an operator's order, up to UNTIL or without an end.

    It is as it was where nothing would be sent anyway: it waits for a person already, or has
    no refresh token. One that has a wait of its own to sit out (an open exchange, a refusal,
    a failure) stays paused to the end of that: a pause brings no attempt forward.
    """
    is_waiting = grant.state in {GrantState.REAUTHORIZATION_REQUIRED, GrantState.PAUSED}
    if not grant.is_renewable or (is_waiting and not is_ordered(grant)):
        return grant
    before = grant.reason_detail if is_ordered(grant) else grant.reason
    after = in_state(grant, GrantState.PAUSED, worded(reason, before), now)
    return replace(after, due_at=_latest(until, grant))


def resumed(grant: Grant, now: float) -> Grant:
    """GRANT, which is paused for whatever reason, due now."""
    reason = (grant.reason_detail or None) if is_ordered(grant) else grant.reason
    after = by_time(replace(grant, reason=reason, due_at=now), now)
    if reason is None and after.state is not GrantState.FRESH:
        return replace(after, reason=Reason.AWAITING_REFRESH)
    return after


def at_its_end(grant: Grant, now: float) -> Grant:
    """GRANT once the end of its pause has come; as it was where there is none, or not yet."""
    if grant.state is not GrantState.PAUSED or grant.due_at is None or grant.due_at > now:
        return grant
    return resumed(grant, now)


def through(stored: Grant, after: Grant) -> Grant:
    """AFTER, the outcome of an exchange, where an operator has paused the grant as it is STORED.

    What came counts and is kept, and the pause goes on. Only what a person must know of goes
    before it: the grant is lost, or its exchange waits for a decision.
    """
    if not is_ordered(stored) or after.state in {
        GrantState.REAUTHORIZATION_REQUIRED,
        GrantState.PAUSED,
    }:
        return after
    told = after.reason_detail if after.status_reason in ORDERED else after.reason
    assert stored.status_reason is not None
    return replace(
        after,
        state=GrantState.PAUSED,
        reason=worded(stored.status_reason, told),
        since=stored.since,
        due_at=_latest(stored.due_at, after),
    )


def _latest(until: float | None, grant: Grant) -> float | None:
    """UNTIL, or when the next attempt of GRANT is due if that has a reason and comes later."""
    is_held = grant.intent is not None or grant.refused_at is not None
    if until is None or grant.due_at is None or grant.due_at <= until:
        return until
    return grant.due_at if is_held or grant.failures or grant.early_refusals else until
