"""Instants on both clocks around an exchange."""

from refresher.clock import Clock, Instant
from refresher.domain.adoption import Attempt


def attempt_since(sent: Instant, clock: Clock) -> Attempt:
    """The attempt that was SENT then and has ended now.

    Of a clock that was stepped meanwhile the reading counts that makes a token end earlier.
    """
    ended = Instant.of(clock)
    sent_at = min(sent.wall, ended.wall - (ended.elapsed - sent.elapsed))
    return Attempt(sent_at=sent_at, ended_at=ended.wall, draw=clock.draw())
