"""What is known of one endpoint and client id just now: its breaker, and a trial of its client.

Clients that share both share a gate. Everything here is memory of this process and forgotten
with it; what a grant needs to remember is in the vault.
"""

from collections import deque
from dataclasses import dataclass, field

from refresher.domain import schedule
from refresher.domain.outcomes import Outcome, Transient
from refresher.engine.pace import Pace

FAILURES_TO_OPEN = 5
"""Exchanges that fail in a row before the endpoint is left alone for a while."""

GRANTS_TO_OPEN = 2
"""Grants they must belong to, where the endpoint was reached: one grant's failures are its own."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds an endpoint that fails is left alone."""

PAUSES_OF_A_LIFE = 10
"""Where tokens live shortly no pause is longer than such a part of their life, for two lives:
those that fail may be a few grants, and the others have to be served in time."""

FIRST_TRIAL_PAUSE = 5.0
FIRST_SECRET_PAUSE = 60.0
"""Seconds until a rejected client is tried again, and doubled from there. Longer where the
secret may be wrong: some servers spend the refresh token of every request that comes with it."""

EVEN_PROBES = 8
"""Probes before the pauses grow, where the client proved itself: a healthy grant may come
after many that are refused, and must not expire meanwhile."""

SECRET_WORDS = frozenset(
    {
        "invalid_client",
        "incorrect_client_credentials",
        "invalid_client_credentials",
        "invalid_client_secret",
        "bad_client_secret",
    }
)
"""Words about a client that could not prove itself. The others mean one that did, and may not."""

TOO_MANY_REQUESTS = 429

REMEMBERED = 8
"""Grants that failed last, which go last when the endpoint is probed."""


@dataclass(slots=True)
class Trial:
    """A client from its server's first word against it until that is settled.

    One exchange at a time. If another grant is served, the word was about the grant that got
    it; if another is refused as well, the client counts as rejected, and its probes take turns.
    """

    error: str
    refused: set[int] = field(default_factory=set)
    """Grants that got the word."""
    begun: set[int] = field(default_factory=set)
    """Grants whose exchange began since: only those are evidence."""
    is_rejected: bool = False
    probes: int = 0

    def pause(self, lifetime: float | None, draw: float) -> float:
        """Seconds until the next probe of a rejected client, whose tokens live LIFETIME."""
        first, doublings = FIRST_SECRET_PAUSE, self.probes
        if self.error not in SECRET_WORDS:
            first = FIRST_TRIAL_PAUSE * schedule.scale_of(lifetime)
            doublings = max(self.probes - EVEN_PROBES, 0)
        longest = schedule.CLIENT_PROBE * (1 + 2 * draw)
        return min(first * 2.0 ** min(doublings, 16) * (1 + 0.2 * draw), longest)


@dataclass(slots=True)
class Gate:
    """One endpoint and client id. Instants are monotonic."""

    name: str
    pace: Pace = field(default_factory=Pace)
    in_flight: int = 0
    """Exchanges begun and not ended, those whose answer is late included."""
    working: int = 0
    """Those a worker waits for."""
    failing: int = 0
    doubted: int = 0
    """Those of grants that fail by themselves, and of doubted ones."""
    closed_until: float = 0.0
    probing: bool = False
    """One exchange at a time until one of them succeeds."""
    trial: Trial | None = None
    is_rejected: bool = False
    """It was told that the client is rejected, and not yet that it is accepted again."""
    turn: int = 0
    """Which of several clients is offered the odd exchange next."""
    failures: int = 0
    """Failures of the endpoint since it last served somebody."""
    failed: set[int] = field(default_factory=set)
    """The grants they happened to."""
    last_failed: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    served: int = 0
    """Exchanges the endpoint served."""
    lifetime: float | None = None
    """Seconds that the token lives which it issued last; None where that is not known."""
    failing_since: dict[int, int] = field(default_factory=dict)
    """By grant that fails: how many the endpoint had served when it began to."""

    def fails_alone(self, grant_id: int) -> bool:
        """Whether others were served since GRANT_ID began to fail: then it is not the endpoint."""
        return self.failing_since.get(grant_id, self.served) < self.served

    def has_failed(self, grant_id: int, *, is_reached: bool, is_closed: bool) -> float | None:
        """Count a failure of the endpoint; seconds to leave it alone, None: go on.

        Args:
            is_closed: the exchange was out when the endpoint was closed: it is one moment's
                failure with those that closed it, and makes the pause no longer.
        """
        self.failing_since.setdefault(grant_id, self.served)
        self.last_failed.append(grant_id)
        self.failed.add(grant_id)
        if is_closed:
            return None
        self.failures += 1
        enough = GRANTS_TO_OPEN if is_reached else 1
        if self.failures < FAILURES_TO_OPEN or len(self.failed) < enough:
            return None
        beyond, longest = self.failures - FAILURES_TO_OPEN, LONGEST_PAUSE
        if self.lifetime is not None and beyond < 2 * PAUSES_OF_A_LIFE:
            longest = min(max(self.lifetime / PAUSES_OF_A_LIFE, FIRST_PAUSE), LONGEST_PAUSE)
        return min(longest, FIRST_PAUSE * 2.0 ** min(beyond, 8))

    def has_served(self, grant_id: int, lifetime: float | None) -> None:
        """Count an exchange that the endpoint did as it was asked; LIFETIME is of its token."""
        self.served += 1
        self.lifetime = lifetime or self.lifetime
        self.failing_since.pop(grant_id, None)
        self.failures = 0
        self.failed.clear()

    def go_last(self) -> frozenset[int]:
        """Grants whose exchange would tell least: those that failed, or accuse the client."""
        accusing = frozenset() if self.trial is None else frozenset(self.trial.refused)
        return accusing | (frozenset(self.last_failed) if self.probing else frozenset())


def is_throttle(outcome: Outcome) -> bool:
    """Whether a server has said that it was asked too often."""
    return isinstance(outcome, Transient) and outcome.status == TOO_MANY_REQUESTS
