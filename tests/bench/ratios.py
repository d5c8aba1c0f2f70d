"""How the ratios of figures 1 to 3 are told."""

from typing import Any

from tests.bench.ground import Ratio
from tests.bench.session import Bar, Row


def row(what: str, found: Ratio | str, goal: float) -> Row:
    """The line of the table for the ratio to WHAT, or why there is none."""
    if isinstance(found, str):
        return Row(what, "not measured", f">= {goal:g}", found)
    return Row(
        what,
        f"{found.by_cpu:.3f} ± {found.spread:.3f}",
        f">= {goal:g}",
        f"CPU {found.ours_us:.0f} against {found.theirs_us:.0f} us; by wall {found.by_wall:.3f}; "
        f"{found.rounds} rounds; endpoint {found.headroom:.1f} times faster than this peer",
    )


def data(found: Ratio | str) -> dict[str, Any]:
    """The same for ``--json``."""
    if isinstance(found, str):
        return {"ratio": None, "not_measured": found}
    return {
        "ratio": round(found.by_cpu, 4),
        "spread": round(found.spread, 4),
        "by_wall": round(found.by_wall, 4),
        "cpu_us": round(found.ours_us, 1),
        "peer_cpu_us": round(found.theirs_us, 1),
        "rounds": found.rounds,
    }


def bar(label: str, found: Ratio | str, goal: float) -> Bar:
    """The same as a bar."""
    return Bar(label, 0.0 if isinstance(found, str) else found.by_cpu, goal)
