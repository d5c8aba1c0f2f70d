"""What Redis forbids while the rest can be done: told once, and tried again.

A missing right is no lost connection. It stands until somebody mends the ACL, so what is
allowed goes on meanwhile, and the daemon says that it is not ready.
"""

from collections.abc import Callable

from refresher.logs import Event, emit
from refresher.publication.server.faults import Refused

TRY_EVERY = 5.0
"""Seconds between two tries of what was forbidden."""

TRIES = 3
"""Tries in a row without another refusal after which a right counts as given: the heartbeat,
which comes at its own pace, has met it by then."""


class Rights:
    """Remembers which refusals stand.

    Args:
        where: the server, without credentials.
        monotonic: seconds that never run backwards.
    """

    def __init__(self, where: Callable[[], str], monotonic: Callable[[], float]) -> None:
        self._where = where
        self._monotonic = monotonic
        self._standing: dict[str, int] = {}
        """Why, and the tries since that was heard last."""
        self._try_at = 0.0
        self.name: str | None = None
        """A grant that Redis did not let us publish: the one to try again with."""

    @property
    def doubt(self) -> str | None:
        """The first refusal that stands."""
        return next(iter(self._standing), None)

    def note(self, refusal: Refused, name: str | None = None) -> None:
        """Remember REFUSAL, met with the grant NAME, and tell it unless it stands.

        Raises:
            Refused: REFUSAL itself, if nothing else can be done either.
        """
        if not refusal.is_standing:
            raise refusal
        if not self._standing:
            self._try_at = self._monotonic() + TRY_EVERY
        reason = str(refusal)
        if reason not in self._standing:
            emit(Event.REDIS_DOUBTED, server=self._where(), reason=reason)
        self._standing[reason] = 0
        self.name = self.name or name

    def until_try(self) -> float | None:
        """Seconds until what was forbidden should be tried again; None when nothing was."""
        return max(0.0, self._try_at - self._monotonic()) if self._standing else None

    def begin_try(self) -> bool:
        """Note a try; whether all that was forbidden was allowed in the tries before it."""
        self._try_at = self._monotonic() + TRY_EVERY
        self._standing = {
            reason: tries + 1 for reason, tries in self._standing.items() if tries < TRIES
        }
        if not self._standing:
            self.name = None
        return not self._standing
