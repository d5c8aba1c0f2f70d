"""When: the refresh instant, retries, replays, deadlines. Pure; chance is a ``draw``.

Instants are unix seconds, durations seconds, draws numbers in [0, 1). A draw is made
once, when an instant is computed and stored: drawing again at every look would pull
every refresh early.
"""

import math

from refresher.domain.clients import Rotation, RotationProfile, UnknownOutcome
from refresher.domain.grants import Intent

DEFAULT_EXPIRES_IN = 3600.0
"""Lifetime assumed when nobody tells it; never "never" (FAILURES 45)."""

LONGEST_EXPIRES_IN = 10 * 366 * 86400.0
"""Ten years: an ``expires_in`` above it is taken for a mistake of unit and ignored."""

SHORTEST_INTERVAL = 1.0
"""Seconds between two refreshes of one grant at the very least: never a hot loop."""

LEAD_FLOOR = 60.0
"""A minute is what a refresh with retries needs where the lifetime allows it."""

FIRST_RETRY = 5.0
LONGEST_RETRY = 300.0
LONGEST_RETRY_NEAR_END = 30.0
LONGEST_RETRY_EXPIRED = 900.0
LONGEST_RETRY_AFTER = 3600.0
"""A server's Retry-After is honoured up to an hour (FAILURES 42)."""

SHORTEST_DEADLINE = 5.0
LONGEST_DEADLINE = 30.0
"""A request cannot be unsent: short deadlines lose rotations (FAILURES 17)."""

GRACE_BUDGET = 0.66
"""Share of a grace window, from the first send, inside which a replay must end."""

PROMPT_REPLAYS = (0.0, 1.0, 2.0, 4.0)
"""Waits before the first replays where the server is known to tolerate them."""

CLIENT_PROBE = 300.0
"""A rejected client is tried again with one grant every 5 to 15 minutes."""

REJECTION_CONFIRMATION = 60.0
"""Where refresh tokens do not rotate, one rejection is confirmed after this long."""


def refresh_at(
    issued_at: float,
    expires_at: float,
    draw: float,
    *,
    survive_outage: float = 0.0,
    refresh_in: float | None = None,
) -> float:
    """The instant at which the next refresh is due.

    The lead is even in 20-30 % of the lifetime; below a minute 40-50 % for lifetimes up
    to two minutes, else 60-75 s; earlier for ``survive_outage``, never more than half
    the lifetime. The server's own ``refresh_in`` wins when it lies inside the lifetime, but
    leaves room for retries: a minute, or a quarter of a short life.
    """
    lifetime = expires_at - issued_at
    if refresh_in is not None and 0 < refresh_in < lifetime:
        jitter = 0.05 * draw * min(refresh_in, lifetime - refresh_in)
        latest = lifetime - min(LEAD_FLOOR, lifetime / 4)
        return issued_at + min(refresh_in + jitter, latest)
    lead = (0.2 + 0.1 * draw) * lifetime
    if lead < LEAD_FLOOR:
        short = lifetime <= 2 * LEAD_FLOOR
        lead = (0.4 + 0.1 * draw) * lifetime if short else LEAD_FLOOR + 15.0 * draw
    if survive_outage > lead:
        lead = survive_outage * (1.0 + 0.1 * draw)
    return expires_at - min(lead, lifetime / 2)


def floor_between(lifetime: float) -> float:
    """The least time between two scheduled refreshes of one grant."""
    return max(SHORTEST_INTERVAL, lifetime / 4)


def request_interval(lifetime: float | None) -> float:
    """The least time between two refreshes that consumers or operators ask for."""
    return 30.0 if lifetime is None else min(30.0, floor_between(lifetime))


def mandatory_window(lifetime: float | None) -> float:
    """How long before its end a token without its successor counts as degraded."""
    if lifetime is None:
        return LONGEST_RETRY_NEAR_END
    return min(max(30.0, min(0.1 * lifetime, 300.0)), lifetime / 4)


def retry_at(
    now: float,
    failures: int,
    draw: float,
    *,
    expires_at: float | None,
    lifetime: float | None,
    retry_after: float | None = None,
) -> float:
    """The next attempt after ``failures`` (1 or more) failed ones: full jitter, for ever.

    5 s to 300 s while the token lives, scaled down for short lifetimes; at most 30 s
    apart near its end; at most 15 min apart once it is gone.
    """
    scale = 1.0 if lifetime is None else min(1.0, max(lifetime / 600.0, 0.05))
    longest = LONGEST_RETRY * scale
    if expires_at is None or expires_at <= now:
        longest = LONGEST_RETRY_EXPIRED
    elif expires_at - now < max(30.0, mandatory_window(lifetime)):
        longest = min(longest, LONGEST_RETRY_NEAR_END)
    ceiling = min(longest, FIRST_RETRY * scale * 2.0 ** min(failures - 1, 16))
    floor = 0.2 * FIRST_RETRY * scale
    return now + max(floor + draw * max(ceiling - floor, 0.0), capped_retry_after(retry_after))


def capped_retry_after(retry_after: float | None) -> float:
    """Seconds to stay away as the server asked, between 0 and an hour."""
    return min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)


def attempt_deadline(rotation: Rotation, remaining: float | None) -> float:
    """Seconds one attempt may take: short enough that a replay still fits a grace window."""
    wanted = LONGEST_DEADLINE
    if rotation.profile is RotationProfile.GRACE:
        wanted = min(wanted, rotation.grace / 4)
    if remaining is not None:
        wanted = min(wanted, remaining / 3)
    return max(wanted, SHORTEST_DEADLINE)


def last_replay_at(first_sent_at: float, rotation: Rotation) -> float:
    """The last instant at which a replay can begin and still end inside its grace window.

    Without a window that instant has always passed.
    """
    if rotation.profile is not RotationProfile.GRACE:
        return -math.inf
    return first_sent_at + GRACE_BUDGET * rotation.grace - attempt_deadline(rotation, None)


def replay_at(
    now: float,
    intent: Intent,
    rotation: Rotation,
    policy: UnknownOutcome,
    fallback: float,
    *,
    expires_at: float | None,
    lifetime: float | None,
) -> float | None:
    """When to present the same refresh token again after an unknown outcome.

    Args:
        intent: its ``attempts`` counts the ones that may have been processed.
        fallback: the ordinary retry instant, for when no prompt replay is right.

    Returns:
        None when only an operator may decide (``halt``).
    """
    prompt = len(PROMPT_REPLAYS)
    wait = PROMPT_REPLAYS[min(intent.attempts, prompt) - 1]
    short_backoff = min(now + wait, fallback)
    match rotation.profile:
        case RotationProfile.NONE:
            return fallback
        case RotationProfile.UNTIL_USED:
            return short_backoff if intent.attempts <= prompt else fallback
        case RotationProfile.GRACE:
            if short_backoff <= last_replay_at(intent.first_sent_at, rotation):
                return short_backoff
        case RotationProfile.STRICT | RotationProfile.UNKNOWN:
            pass
    if policy is UnknownOutcome.HALT:
        return None
    if policy is UnknownOutcome.DEFER and expires_at is not None:
        # A clock that was ahead may have dated the end; no token outlives its lifetime.
        ends_at = expires_at if lifetime is None else min(expires_at, now + lifetime)
        return max(ends_at - mandatory_window(lifetime), now if intent.attempts == 1 else fallback)
    return now if intent.attempts == 1 else fallback
