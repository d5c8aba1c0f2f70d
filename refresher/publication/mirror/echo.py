"""What we wrote of a grant, small enough to be remembered until it is looked at once.

Redis tells us of our own writes as it does of everybody's, and an own and a foreign write
that come close together are told once. So a name that we wrote is looked at once, a moment
after its last write, against a digest of what was written: no vault is read for it.
"""

import hashlib
import math
from dataclasses import dataclass

from refresher.domain.grants import Publication
from refresher.publication import records
from refresher.publication.mirror.observation import BRIEF, TTL_TOLERANCE, Observed
from refresher.publication.records import Fields
from refresher.publication.reports import Outcome, PublishReport


@dataclass(frozen=True, slots=True)
class Echo:
    """What Redis should hold of one grant."""

    digest: bytes
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


ABSENT = Echo(hashlib.blake2b(repr(([], [])).encode(), digest_size=16).digest(), math.inf)
"""Nothing of a grant."""


def echo_of(
    publication: Publication, report: PublishReport, now: float, monotonic: float
) -> Echo | None:
    """What REPORT says that Redis holds; None where that is not known.

    Args:
        now: the instant by which the life of the token was measured.
        monotonic: the same instant as ``Echo.is_heard`` will be told.
    """
    name = publication.grant.name
    if report.statuses[name] not in {Outcome.WRITTEN, Outcome.REWRITTEN}:
        return None
    status = records.status_fields(publication)
    match report.tokens[name]:
        case Outcome.WRITTEN | Outcome.REWRITTEN:
            life = records.remaining_life(publication, now)
            if life < BRIEF:
                return None  # it may have ended by itself when it is looked at
            return Echo(_digest(records.token_fields(publication), status), monotonic + life)
        case Outcome.REMOVED | Outcome.ABSENT:
            return Echo(_digest({}, status), math.inf)
        case Outcome.LATE if name not in report.left:
            return Echo(_digest({}, status), math.inf)
        case _:
            return None


def _digest(token: Fields, status: Fields) -> bytes:
    held = repr((sorted(token.items()), sorted(status.items())))
    return hashlib.blake2b(held.encode(), digest_size=16).digest()
