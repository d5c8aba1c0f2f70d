"""What the clock makes of a grant: the state that follows from its token's end and its reason."""

from collections.abc import Collection

from refresher.domain import schedule
from refresher.domain.adoption import in_state
from refresher.domain.grants import Fault, Grant, GrantKind, GrantState
from refresher.domain.reasons import Reason

TOLD_AT_ONCE = {
    Reason.CLIENT_REJECTED,
    Reason.MISCONFIGURED,
    Reason.PROOF_DEMANDED,
    Reason.NOT_AUTHORIZED,
    Reason.REFUSED,
}
"""Reasons that degrade a grant however long its token still lives: a person can act now."""


def state_by_time(grant: Grant, now: float) -> GrantState:
    """The state that follows from the clock alone, for a grant that is still worked on."""
    if grant.issued_at is None:
        return GrantState.PENDING
    if grant.expires_at is not None and grant.expires_at <= now:
        return GrantState.EXPIRED
    # A doubt outlives the word of its last question, which may be another one.
    if grant.status_reason in TOLD_AT_ONCE or grant.refused_at is not None:
        return GrantState.DEGRADED
    fails_alone = grant.fault is Fault.GRANT and grant.failing_since is not None
    if fails_alone and now - (grant.failing_since or now) >= schedule.UNEXPLAINED_FOR:
        return GrantState.DEGRADED
    near_end = grant.expires_at is not None and grant.expires_at - now < schedule.mandatory_window(
        grant.lifetime
    )
    return GrantState.DEGRADED if near_end and grant.failures else GrantState.FRESH


def pass_time(grant: Grant, now: float, held_back: Collection[str] = ()) -> Grant:
    """GRANT as the clock alone has left it: degraded, expired, or in need of a person.

    Args:
        held_back: the clients whose grants wait for their endpoint, or their server, to be well.
    """
    if grant.state not in {GrantState.FRESH, GrantState.DEGRADED}:
        return grant
    ended = grant.expires_at is not None and grant.expires_at <= now
    if ended and grant.kind is GrantKind.STATIC:
        return in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, Reason.TOKEN_ENDED, now)
    if ended and not grant.is_renewable:
        return in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, Reason.NO_REFRESH_TOKEN, now)
    state = state_by_time(grant, now)
    reason = grant.reason
    if reason is None and state is not GrantState.FRESH:
        reason = Reason.HELD_BACK if grant.client in held_back else Reason.OVERDUE
    return in_state(grant, state, reason, now)


def by_time(grant: Grant, now: float) -> Grant:
    """GRANT in the state that the clock and its reason give it, unless a person is needed."""
    if grant.state is GrantState.REAUTHORIZATION_REQUIRED:
        return grant
    return in_state(grant, state_by_time(grant, now), grant.reason, now)
