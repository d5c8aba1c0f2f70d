"""When: the refresh instant, retries, replays, deadlines. Pure; chance is a ``draw``.

Instants are unix seconds, durations seconds, draws numbers in [0, 1). A draw is made
once, when an instant is computed and stored: drawing again at every look would pull
every refresh early.
"""

import math
from dataclasses import dataclass

from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Intent
from refresher.domain.quirks import Rotation, RotationProfile

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
"""A request cannot be unsent: short deadlines lose rotations (FAILURES 17)."""

LONGEST_READING = 90.0
"""Seconds after its request left within which an answer is read, where a lost one costs the
grant. Few servers and proxies hold a request for longer than a minute."""

GRACE_BUDGET = 0.66
"""Share of a grace window, from the first send, inside which a replay must end."""

PROMPT_REPLAYS = (0.0, 1.0, 2.0, 4.0)
"""Waits before the first replays where the server is known to tolerate them."""

CLIENT_PROBE = 300.0
"""A rejected client is tried again with one grant every 5 to 15 minutes."""

UNEXPLAINED_FOR = 300.0
"""Seconds of refusals of one kind after which a grant that fails alone counts as degraded."""

MISUNDERSTOOD_FOR = 600.0
"""Seconds of one and the same odd word after which it is believed to be permanent."""

DOUBT_ASKED_AFTER = (120.0, 600.0, 1800.0)
"""Seconds after the first refusal at which a doubted grant is asked for again."""

DOUBT_INTERVAL = 3600.0
"""Seconds between two questions from then on."""

LONGEST_WAIT = 1.1 * max(LONGEST_RETRY_AFTER, DOUBT_INTERVAL)
"""Seconds that a grant without a token waits for its next request at the most."""

DOUBT_AT_LEAST = 1800.0
"""Seconds a grant is doubted at the least, whoever is served meanwhile: the longest known
outage that said ``invalid_grant`` to everybody lasted minutes."""

EARLY_TRIES = 5
"""Tries for one access token at a server that refuses early refreshes."""

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


def kept_alive(due_at: float, used_at: float, idle: float | None) -> float:
    """DUE_AT, or the middle of the IDLE seconds that a refresh token lives unused, if earlier."""
    return due_at if idle is None else min(due_at, used_at + idle / 2)


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
    scale = scale_of(lifetime)
    longest = LONGEST_RETRY * scale
    if expires_at is None or expires_at <= now:
        longest = LONGEST_RETRY_EXPIRED
    elif expires_at - now < max(30.0, mandatory_window(lifetime)):
        longest = min(longest, LONGEST_RETRY_NEAR_END)
    ceiling = min(longest, FIRST_RETRY * scale * 2.0 ** min(failures - 1, 16))
    floor = 0.2 * FIRST_RETRY * scale
    return now + max(floor + draw * max(ceiling - floor, 0.0), capped_retry_after(retry_after))


def scale_of(lifetime: float | None) -> float:
    """By how much waits are shorter for tokens of less than ten minutes."""
    return 1.0 if lifetime is None else min(1.0, max(lifetime / 600.0, 0.05))


def capped_retry_after(retry_after: float | None) -> float:
    """Seconds to stay away as the server asked, between 0 and an hour."""
    return min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long to wait for one answer, in seconds from the moment its request left."""

    deadline: float
    """What a worker waits."""
    reading: float
    """What is read after that all the same, the grant still claimed: an answer that comes late
    may hold the only valid refresh token. Equal to ``deadline`` where a replay costs nothing."""


def waiting(
    rotation: Rotation,
    response_timeout: float,
    intent: Intent,
    now: float,
    remaining: float | None,
) -> Waiting:
    """How long to wait for the answer to the exchange of INTENT that begins NOW.

    Args:
        response_timeout: seconds the client's server may take.
        remaining: seconds that the published token still lives; None where there is none.
    """
    profile = governing(rotation, intent.first_sent_at, now).profile
    wanted = response_timeout
    match profile:
        case RotationProfile.STRICT | RotationProfile.UNKNOWN:
            # However little is left of the token: a new token late is better than none ever.
            return Waiting(wanted, max(wanted, LONGEST_READING))
        case RotationProfile.GRACE:
            wanted = min(wanted, replay_length(rotation))
        case RotationProfile.NONE if remaining is not None and remaining > 0:
            wanted = min(wanted, max(remaining / 3, SHORTEST_DEADLINE))
        case RotationProfile.NONE | RotationProfile.UNTIL_USED:
            pass
    return Waiting(wanted, wanted)


def governing(rotation: Rotation, first_sent_at: float, now: float) -> Rotation:
    """The profile by which an exchange that begins NOW is to be treated.

    A grace window saves a lost answer only while a whole replay fits behind this exchange
    and inside the window; from then on nothing does, and the profile is ``strict``.
    """
    if rotation.profile is not RotationProfile.GRACE:
        return rotation
    replays_until = first_sent_at + GRACE_BUDGET * rotation.grace
    fits = now + 2 * replay_length(rotation) <= replays_until
    return rotation if fits else Rotation(RotationProfile.STRICT)


def replay_length(rotation: Rotation) -> float:
    """Seconds a replay inside the grace window of ROTATION may take."""
    return max(rotation.grace / 4, SHORTEST_DEADLINE)


def last_replay_at(first_sent_at: float, rotation: Rotation) -> float:
    """The last instant at which a replay can begin and still end inside its grace window.

    Without a window that instant has always passed.
    """
    if rotation.profile is not RotationProfile.GRACE:
        return -math.inf
    return first_sent_at + GRACE_BUDGET * rotation.grace - replay_length(rotation)


def next_question(first_refused_at: float, refusals: int, now: float, draw: float) -> float:
    """When to ask again for a doubted grant, after REFUSALS (1 or more) of its refresh token.

    2, 10 and 30 minutes after the first refusal, then hourly; a little later by chance, never
    earlier, and never two questions within a minute.
    """
    if refusals <= len(DOUBT_ASKED_AFTER):
        after = DOUBT_ASKED_AFTER[refusals - 1] * (1 + 0.1 * draw)
        return max(first_refused_at + after, now + 60.0)
    return now + DOUBT_INTERVAL * (1 + 0.1 * draw)


def is_final_refusal(
    first_refused_at: float, now: float, witness_at: float | None, doubt_for: float
) -> bool:
    """Whether a grant refused again NOW is lost: half an hour of refusals and a witness.

    Args:
        witness_at: when another grant of the client was last served.
        doubt_for: seconds that decide where there is no witness.
    """
    refused_for = now - first_refused_at
    is_witnessed = witness_at is not None and witness_at > first_refused_at
    return refused_for >= doubt_for or (is_witnessed and refused_for >= DOUBT_AT_LEAST)


def too_early_again_at(now: float, expires_at: float | None, refusals: int, draw: float) -> float:
    """When to try again after the server refused REFUSALS times for being too early.

    Each try halves what is left of the token; after ``EARLY_TRIES`` of them only its end is
    left to wait for, and a refusal beyond it is asked about with an ordinary back-off.
    """
    left = 0.0 if expires_at is None else expires_at - now
    if left <= SHORTEST_INTERVAL:
        return retry_at(now, refusals, draw, expires_at=None, lifetime=None)
    return now + max(left / 2 if refusals < EARLY_TRIES else left, SHORTEST_INTERVAL)


def replay_at(
    now: float,
    intent: Intent,
    rotation: Rotation,
    policy: UnknownOutcome,
    fallback: float,
    *,
    expires_at: float | None,
    lifetime: float | None,
    is_kept: bool = False,
) -> float | None:
    """When to present the same refresh token again after an unknown outcome.

    Args:
        intent: its ``attempts`` counts the ones that may have been processed.
        fallback: the ordinary retry instant, for when no prompt replay is right.
        is_kept: a whole answer is kept that may hold the successor. A replay at a strict
            server would end it, so the live token is used up first.

    Example for ``grace(30)``, with an exchange sent at second 0 and lost at second 2: replays
    begin at once, then 1, 2 and 4 s after each failure, and none later than second 12.3
    (0.66 x 30 s less the 7.5 s that a replay may take), so that each can end in the window.
    From then on the server may take a replay for a theft, and the grant is treated as strict.

    Why ``strict`` replays at all: if the first request never arrived, the replay is the first
    that the server sees, and saves the grant. If it did arrive, the successor is lost whatever
    happens now, and waiting would only take longer to say so.

    Returns:
        None when only an operator may decide (``pause``).
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
    if policy is UnknownOutcome.PAUSE:
        return None
    if (policy is UnknownOutcome.DEFER or is_kept) and expires_at is not None:
        # A clock that was ahead may have dated the end; no token outlives its lifetime.
        ends_at = expires_at if lifetime is None else min(expires_at, now + lifetime)
        return max(ends_at - mandatory_window(lifetime), now if intent.attempts == 1 else fallback)
    return now if intent.attempts == 1 else fallback
