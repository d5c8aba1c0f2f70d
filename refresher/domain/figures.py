"""How many grants stand where: what a vault can tell of all of them at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

TOKEN_WINDOWS: Mapping[str, float] = {"5m": 5 * MINUTE, "1h": HOUR, "1d": DAY}
"""Seconds from now in which the ends of access tokens are counted, by name; ascending."""

REFRESH_TOKEN_WINDOWS: Mapping[str, float] = {"1d": DAY, "7d": 7 * DAY, "14d": 14 * DAY}
"""The same for refresh tokens."""


@dataclass(frozen=True, slots=True)
class Ends:
    """When tokens end that live now."""

    soonest: float | None
    """The first end; None where none is known."""
    within: Mapping[str, int]
    """How many end in each window; a longer one counts those of a shorter one again."""


@dataclass(frozen=True, slots=True)
class Due:
    """Grants that are due and whose exchange has not begun."""

    count: int
    since: float
    """When the first of them was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a vault held at one instant."""

    grants: Mapping[tuple[str | None, str], int] = field(default_factory=dict)
    """Grants by client (None: a static token) and state; ``damaged``: a state nobody knows."""
    access_tokens: Ends
    """Of the grants that are worked on."""
    refresh_tokens: Ends
    """Of the grants that need no person yet; of most nobody knows the end."""
    due: Mapping[str | None, Due] = field(default_factory=dict)
    """By client, where there are any."""
    incidents: Mapping[str, int] = field(default_factory=dict)
    """The most grants refused in each open incident, by client."""
    size: int
    """Bytes of the vault's file and its write-ahead log."""
