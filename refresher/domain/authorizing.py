"""What people do to a grant: log in, seed, set, end, ask. Pure; the vault stores the result.

Each gives the grant as it is to be stored, its tokens, version and revision aside.
"""

from dataclasses import replace

from refresher.domain import schedule
from refresher.domain.grants import Grant, GrantState
from refresher.domain.reasons import Reason
from refresher.domain.states import state_by_time


def logged_in(stored: Grant, authorized: Grant, now: float) -> Grant:
    """STORED under the authorization that a login brought, which made AUTHORIZED of it."""
    return replace(
        stored.reauthorized,
        state=authorized.state,
        reason=authorized.reason,
        since=authorized.since,
        issued_at=authorized.issued_at,
        expires_at=authorized.expires_at,
        due_at=authorized.due_at,
        refresh_token_expires_at=authorized.refresh_token_expires_at,
        authorized_at=authorized.authorized_at,
        end_warning_at=authorized.end_warning_at,
        served_at=now,
        authorized_by=authorized.authorized_by,
        authorized_subject=authorized.authorized_subject,
    )


def seeded(
    stored: Grant, expires_at: float | None, now: float, draw: float, *, idle: float | None = None
) -> Grant:
    """STORED with a refresh token that somebody brought: due at once.

    Args:
        expires_at: when the access token ends that came along, if one did: it is refreshed
            when that asks for it.
        idle: seconds after which the refresh token dies unused.
    """
    after = stored.reauthorized.but(reason=None, since=now, due_at=now)
    if expires_at is not None and expires_at > now:
        return after.but(
            state=GrantState.FRESH,
            issued_at=now,
            expires_at=expires_at,
            due_at=schedule.kept_alive(schedule.refresh_at(now, expires_at, draw), now, idle),
        )
    state = state_by_time(after, now)
    reason = None if state is GrantState.FRESH else Reason.AWAITING_REFRESH
    return after.but(state=state, reason=reason)


def exchanged_anew(stored: Grant, now: float) -> Grant:
    """STORED, whose subject was authorized anew: its token is of the authorization before."""
    after = replace(stored.reauthorized, reason=None, due_at=now)
    if stored.state is GrantState.PAUSED:
        return replace(after, reason=stored.reason, due_at=stored.due_at)
    state = state_by_time(after, now)
    reason = None if state is GrantState.FRESH else Reason.AWAITING_REFRESH
    return replace(after, state=state, reason=reason, since=now)


def given_static(stored: Grant, expires_at: float | None, now: float) -> Grant:
    """STORED with a static token, which nobody but a person will replace."""
    return replace(
        stored.reauthorized,
        state=GrantState.FRESH,
        reason=None,
        since=now,
        issued_at=now,
        expires_at=expires_at,
        due_at=None,
    )


def without_tokens(stored: Grant, state: GrantState, reason: str | None, now: float) -> Grant:
    """STORED in STATE with nothing to refresh and nothing to publish."""
    return replace(
        stored.reauthorized,
        state=state,
        reason=reason,
        since=now,
        due_at=None,
        issued_at=None,
        expires_at=None,
    )


def asked_for(stored: Grant, now: float) -> Grant | None:
    """STORED once an operator has asked for its refresh; None when it cannot be refreshed.

    That ends no pause: only ``resume`` does, or what ended it by itself.
    """
    waits = stored.state in {GrantState.REAUTHORIZATION_REQUIRED, GrantState.PAUSED}
    if waits or not stored.is_renewable:
        return None
    return replace(stored, due_at=now, requested_at=now)
