"""A pass over the tokens that consumers can read, soonest end first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refresher.domain.grants import Publication


@dataclass(frozen=True, slots=True)
class Shown:
    """How far such a pass has come."""

    ends_at: float | None
    """The end of the last token; None among those that have none, which come last."""
    id: int = 0
    """The grant of it."""


BEGINNING = Shown(0.0)


@dataclass(frozen=True, slots=True)
class Page:
    """Some readable tokens in their order."""

    publications: Sequence[Publication]
    """Of each grant only what its token key shows."""
    last: Shown | None
    """Where to go on; None at the end."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What Redis should have of some readable tokens, in their order, their tokens left sealed."""

    of: Mapping[str, int]
    """The version of each, by the name of its grant."""
    last: Shown | None
    """Where to go on; None at the end."""
