"""What we wrote of a grant, small enough to be remembered until it is looked at once.

Redis tells us of our own writes as it does of everybody's, and an own and a foreign write
that come close together are told once. So a name that we wrote is looked at once, a moment
after its last write, against a digest of what was written: no vault is read for it.
"""

import math
from dataclasses import dataclass

from refresher.publication.mirror.observation import BRIEF, TTL_TOLERANCE, Observed
from refresher.publication.records import Fields
from refresher.publication.reports import READABLE, Outcome, PublishReport


@dataclass(frozen=True, slots=True)
class Echo:
    """What Redis should hold of one grant."""

    digest: int
    ends_at: float
    """Monotonic instant at which the token key ends; infinite for one that stays."""

    def is_heard(self, observed: Observed, now: float) -> bool:
        """Whether OBSERVED, at the monotonic instant NOW, is what was written."""
        if observed.is_hidden:
            return True
        if observed.is_spoilt or _digest(observed.token, observed.status) != self.digest:
            return False
        if not observed.token:
            return True
        if math.isinf(self.ends_at) or math.isinf(observed.life):
            return self.ends_at == observed.life
        return observed.life <= self.ends_at - now + TTL_TOLERANCE


def echo_of(name: str, report: PublishReport, monotonic: float) -> Echo | None:
    """What REPORT says that Redis holds of the grant NAME; None where that is not known.

    Args:
        monotonic: the instant by which the life of the token was measured, as
            ``Echo.is_heard`` will be told.
    """
    if report.statuses[name] not in READABLE:
        return None
    told = report.told[name]
    match report.tokens[name]:
        case Outcome.WRITTEN | Outcome.REWRITTEN:
            if told.life < BRIEF:
                return None  # it may have ended by itself when it is looked at
            return Echo(_digest(told.token, told.status), monotonic + told.life)
        case Outcome.REMOVED | Outcome.ABSENT:
            return Echo(_digest({}, told.status), math.inf)
        case Outcome.LATE if name not in report.left:
            return Echo(_digest({}, told.status), math.inf)
        case _:
            return None


def _digest(token: Fields, status: Fields) -> int:
    """64 bits under a key of this process (SipHash): nobody else can aim at one."""
    return hash((frozenset(token.items()), frozenset(status.items())))


ABSENT = Echo(_digest({}, {}), math.inf)
"""Nothing of a grant."""
