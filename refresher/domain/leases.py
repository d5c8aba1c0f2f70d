"""When an exchange that another holder has claimed may be taken over from it. Pure.

Where several holders share one vault, one of them may die, hang or be cut off from the vault
while it has the only good answer in memory. What that would cost decides how long it is waited
for. All instants are on the vault's clock.

An exchange that was claimed counts as sent. Between the claim and the bytes that leave nothing
is written, since that would cost every refresh a second commit; so only an intent that is over
is known not to be under way.
"""

from dataclasses import dataclass
from typing import assert_never

from refresher.domain import schedule
from refresher.domain.grants import Grant, Intent
from refresher.domain.quirks import Rotation, RotationProfile

MISSED = 3.0
"""Seconds without a heartbeat after which a holder is silent, and sends nothing new itself."""

BEAT_EVERY = 1.0
"""Seconds between two heartbeats."""

BACK_WITHIN = 3.0
"""Seconds that a holder has to come back of which no connection to the vault is left.

One that lives sends nothing new by then (``may_begin``), since it could not be heard. What it has
sent goes on, and nobody can call that back. So one connection that ends proves nothing, nor do
all that end together with those of whoever looks."""

VANISHED_WITHIN = 10.0
"""Seconds from the last heartbeat in which the connection of a holder that dies goes with it.
One that vanishes later belonged to a holder that was cut off first, and may live."""

SEND_WITHIN = 10.0
"""Seconds after its claim in which a request may begin; it is given back unsent after that."""

CONNECTING = 5.0
"""Seconds that pass at the most until a request that has begun leaves."""

CLOCKS_APART = 5.0
"""Seconds by which a holder may misjudge the vault's clock, with a process that is held up."""

AFTER_END = 60.0
"""Seconds from the end of a lease to its take-over, where no live token says when."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one exchange, from its claim on."""

    taken_at: float
    ends_at: float
    """Later than the last instant at which its holder may still read an answer."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What is known of the life of one holder of leases."""

    heard_at: float | None = None
    """Its last heartbeat; None where it left no trace."""
    gone_at: float | None = None
    """When none of its connections was first seen to be left; a heartbeat forgets it."""

    def is_silent(self, now: float, lease: Lease | None = None) -> bool:
        """Whether it missed its heartbeats; the claim of LEASE counts as one."""
        signs = (self.heard_at, None if lease is None else lease.taken_at)
        return all(sign is None or now - sign > MISSED for sign in signs)

    def is_dead(self, now: float) -> bool:
        """Whether its connections ended while it was heard of, and it did not come back."""
        if self.gone_at is None or self.heard_at is None:
            return False
        went_with_it = self.gone_at - self.heard_at <= VANISHED_WITHIN
        return went_with_it and now - self.gone_at >= BACK_WITHIN


def length(response_timeout: float) -> float:
    """Seconds for which an exchange is leased whose server may take RESPONSE_TIMEOUT.

    In this order: the request begins, connects, and its answer is read to the last instant.
    """
    reading = max(response_timeout, schedule.LONGEST_READING)
    return SEND_WITHIN + CONNECTING + reading + CLOCKS_APART


def may_begin(taken_at: float, heard_at: float, now: float) -> bool:
    """Whether the holder of a lease may still send: nobody can take it over meanwhile.

    Args:
        heard_at: the last heartbeat that the vault took from it.
    """
    return now - taken_at <= SEND_WITHIN and now - max(taken_at, heard_at) <= MISSED


def may_take_over(
    grant: Grant, rotation: Rotation, lease: Lease, holder: Holder, now: float
) -> bool:
    """Whether the exchange of GRANT, leased to HOLDER, may be taken over from it.

    A holder that is heard of keeps what it has, for as long as that takes. From a silent one
    goes at once what a second request cannot harm; the rest only from one that is known to be
    dead, or once waiting for it costs more than it may save. What the client's
    ``on_unknown_outcome`` says decides what follows, and not when.

    Args:
        rotation: how the server treats the refresh token that was presented.
    """
    if not holder.is_silent(now, lease):
        return False
    if grant.intent is None or _is_harmless(rotation, grant.intent, now):
        return True
    return holder.is_dead(now) or now >= waited_for_until(grant, lease)


def waited_for_until(grant: Grant, lease: Lease) -> float:
    """Until when a silent holder is waited for, whose answer may be the only good one.

    As under ``defer``: the live token is used up to its mandatory window. But never before
    the lease ends, for until then its request may be under way (G2).
    """
    lifetime, end = grant.lifetime, grant.expires_at
    if end is not None and lifetime is not None:
        end = min(end, lease.taken_at + lifetime)
    if end is None or end <= lease.ends_at:
        return lease.ends_at + AFTER_END
    return max(end - schedule.mandatory_window(lifetime), lease.ends_at)


def _is_harmless(rotation: Rotation, intent: Intent, now: float) -> bool:
    """Whether the same refresh token can be presented again, whatever became of INTENT."""
    match rotation.profile:
        case RotationProfile.NONE | RotationProfile.UNTIL_USED:
            return True
        case RotationProfile.GRACE:
            return now <= schedule.last_replay_at(intent.first_sent_at, rotation)
        case RotationProfile.STRICT | RotationProfile.UNKNOWN:
            return False
        case _:
            assert_never(rotation.profile)
