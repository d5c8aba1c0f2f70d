"""One session of the benchmark: how long it takes, what it works on, and what it finds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.environments import Environments
from tests.bench.processes import Ground

STEPS = ("import", "reload", "start", "idle", "busy", "all_due")
"""All that figure 5 can measure of a vault, in its order."""


@dataclass(frozen=True)
class Depth:
    """How much is measured: the whole, or ``--quick``."""

    rounds: int
    """Alternating rounds of figures 1 to 3; medians need five."""
    grants: int
    """Due at once in a round of the pipeline."""
    peer_cpu: float
    """CPU seconds of a peer in a round."""
    steady_seconds: float
    """How long figure 4 keeps up a rate."""
    steady_rounds: int
    sizes: tuple[int, ...]
    """Grants in the vaults of figures 5 and 7."""
    idle_seconds: float
    """How long figure 5 lets an idle daemon settle, and then looks at it."""
    busy_seconds: float
    """How long figure 5 keeps up 300/s while commands run."""
    drain_seconds: float
    """Length of each of the three looks at a backlog."""
    patience: float
    """Seconds that one thing of figure 5 may take."""
    imported: int
    """Lines that an import of figure 5 may take at most."""
    profiled: int
    """Grants refreshed while figure 6 looks."""
    shared_rounds: int
    """Alternating rounds of figure 7."""
    published: tuple[int, ...]
    """Grants of which figure 9 replaces the master."""
    steps: tuple[str, ...] = STEPS
    """What figure 5 measures of each vault."""


WHOLE = Depth(
    rounds=7,
    grants=4_000,
    peer_cpu=2.0,
    steady_seconds=20.0,
    steady_rounds=5,
    sizes=(1_000, 100_000, 1_000_000),
    idle_seconds=20.0,
    busy_seconds=120.0,
    drain_seconds=60.0,
    patience=600.0,
    imported=1_000_000,
    profiled=6_000,
    shared_rounds=5,
    published=(10_000, 100_000),
)
QUICK = Depth(
    rounds=5,
    grants=1_000,
    peer_cpu=0.5,
    steady_seconds=6.0,
    steady_rounds=1,
    sizes=(1_000, 10_000),
    idle_seconds=3.0,
    busy_seconds=10.0,
    drain_seconds=2.0,
    patience=12.0,
    imported=10_000,
    profiled=2_000,
    shared_rounds=3,
    published=(10_000,),
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    goal: str = ""
    more: str = ""


@dataclass(frozen=True)
class Bar:
    """One bar of a plot."""

    label: str
    value: float
    goal: float | None = None


@dataclass(frozen=True)
class Found:
    """What came of one figure."""

    rows: Sequence[Row]
    data: Mapping[str, Any]
    """For ``--json``; ratios are by CPU, and more is faster."""
    bars: Sequence[Bar] = field(default=())
    unit: str = ""
    """What the bars show."""
    is_broken: bool = False
    """Something happened that must not, such as a wrong refresh token presented."""


@dataclass(frozen=True)
class Session:
    """What a figure is measured with."""

    ground: Ground
    environments: Environments
    depth: Depth
    progress: Callable[[str], None]
    found: Mapping[int, Found] = field(default_factory=dict)
    """What figures have found so far, or in an earlier session that was given."""
