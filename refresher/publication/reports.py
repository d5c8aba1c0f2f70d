"""What became of a batch that was published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from refresher.publication.records import Told


class Outcome(StrEnum):
    """What became of one hash."""

    WRITTEN = "written"
    """It was absent, older, or higher and foreign; a token was announced."""
    REWRITTEN = "rewritten"
    """The same version was there; nothing was announced."""
    REFUSED = "refused"
    """A higher version is there."""
    LATE = "late"
    """The token ended before it could be written."""
    REMOVED = "removed"
    ABSENT = "absent"
    """There was nothing to remove."""
    FORBIDDEN = "forbidden"
    """Redis lets nobody of our name do it; ``rights`` has told."""


READABLE = frozenset({Outcome.WRITTEN, Outcome.REWRITTEN})
"""What is there now is what was sent."""


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What became of a batch, by name of the grant."""

    tokens: Mapping[str, Outcome] = field(default_factory=dict)
    statuses: Mapping[str, Outcome] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    """What was sent of each."""
    left: frozenset[str] = frozenset()
    """Grants whose token was ``LATE``, and an older one stays to its own end."""
    spoilt: frozenset[str] = frozenset()
    """Grants of which a key held something of another type."""

    def is_forbidden(self, name: str) -> bool:
        """Whether Redis did not let us write token or status of NAME."""
        return Outcome.FORBIDDEN in {self.tokens[name], self.statuses[name]}

    @property
    def refused(self) -> set[str]:
        """Grants of which Redis holds something newer than what was sent."""
        return {
            name
            for outcomes in (self.tokens, self.statuses)
            for name, outcome in outcomes.items()
            if outcome is Outcome.REFUSED
        }
