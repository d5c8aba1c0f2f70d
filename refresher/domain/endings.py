"""When a refresh token ends for good, and when a person is told of that. Pure.

An end is known where the server tells it, or where a refresh token lives for so long from the
consent on. It is told 14, 7 and 1 days before, each once: what was told is stored in the grant.
"""

from dataclasses import replace

from refresher.domain.grants import Grant
from refresher.domain.schedule import LEAD_FLOOR

DAY = 86_400.0
ANNOUNCED_DAYS = (14, 7, 1)
"""Days before its end at which a person is told."""

SAME_END, SAME_SHARE = 3_600.0, 0.01
"""An end that is told anew is the same if it differs by no more than so many seconds, nor by
this share of what is left: servers tell what is left, and that took a while to come."""


def known_end(told: float | None, authorized_at: float | None, life: float | None) -> float | None:
    """When a refresh token ends at the latest; None where nobody knows.

    Args:
        told: when its server says that it ends.
        authorized_at: when the person consented.
        life: seconds from the consent on that no refresh prolongs.
    """
    ends = [told] if told is not None else []
    if authorized_at is not None and life is not None:
        ends.append(authorized_at + life)
    return min(ends, default=None)


def with_end(
    grant: Grant, ends_at: float | None, now: float, *, is_prolonged: bool = False
) -> Grant:
    """GRANT, just served, whose refresh token ends at ENDS_AT as far as is known NOW.

    Each refresh prolongs the refresh tokens of many servers. So what would be told before the
    next refresh is due, if that is soon, is left out, and a later end begins afresh.

    Args:
        is_prolonged: the next refresh certainly prolongs it, whenever that is due.
    """
    known = grant.refresh_token_expires_at
    if ends_at is None and {known, grant.end_warning_at, grant.end_announced} == {None}:
        return grant  # of nearly all nothing is known, and so it stays
    if ends_at is None:
        return grant.but(refresh_token_expires_at=None, end_warning_at=None, end_announced=None)
    if known is not None and abs(ends_at - known) <= min(SAME_END, SAME_SHARE * (known - now)):
        return grant
    soon = now + (ends_at - now) / 2
    waits = grant.due_at is not None and (is_prolonged or grant.due_at < soon)
    after = grant.due_at if grant.due_at is not None and waits else now
    return replace(
        grant,
        refresh_token_expires_at=ends_at,
        end_warning_at=_next_warning(ends_at, after),
        end_announced=None,
    )


def announced(grant: Grant, now: float) -> Grant:
    """GRANT once a person is told NOW when its refresh token ends."""
    ends_at = grant.refresh_token_expires_at
    assert ends_at is not None
    passed = [days for days in ANNOUNCED_DAYS if ends_at - days * DAY <= now]
    return replace(
        grant,
        end_announced=min(passed, default=ANNOUNCED_DAYS[0]),
        end_warning_at=_next_warning(ends_at, now),
    )


def before_end(due_at: float, ends_at: float | None, now: float) -> float:
    """DUE_AT, or earlier: a refresh token that ends before its next use is used before its end.

    A day before, or half of what is left; a server that prolongs it has done so then.
    """
    if ends_at is None or ends_at - now <= LEAD_FLOOR:
        return due_at
    return min(due_at, max(ends_at - DAY, now + (ends_at - now) / 2))


def _next_warning(ends_at: float, after: float) -> float | None:
    warnings = [ends_at - days * DAY for days in ANNOUNCED_DAYS]
    return min((at for at in warnings if at > after), default=None)
