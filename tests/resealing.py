"""``python -m tests.resealing [--grants 50000] [--rate 20] [--json]``: a new key beside refreshes.

The real daemon has a vault with so many grants, two sealed tokens each, and refreshes some all
the time. ``refresher vault rotate-key`` brings in a new key, and ends when everything is sealed
under it. Exchanges are judged by the endpoint's own marks: how late each came, before and
meanwhile. The exit status is 1 if a grant was lost or a cell is left under the old key.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from tests.bench.ground import cpu_seconds, percentile
from tests.bench.processes import Daemon, Ground
from tests.bench.seeding import LATER
from tests.bench.servers import Endpoint
from tests.support.waiting import wait_until

BEFORE = 10.0
"""Seconds of refreshes that are looked at before the new key."""

LEAD = 5.0
"""Seconds from the making of a vault until its first grant is due."""

PUBLISHED_WITHIN = 1_800.0
"""Seconds until everything is published at first."""

BAD = ("grant.lost", "grant.paused", "grant.set_aside", "vault.unopened", "task.restarted")
"""What no rotation may lead to."""


@dataclass(frozen=True)
class Stretch:
    """The exchanges of some seconds; seconds and CPU seconds of the daemon."""

    seconds: float
    cpu: float
    exchanges: int
    late_p50: float
    """From the instant at which a grant was due to its request."""
    late_p99: float
    late_most: float
    longest_gap: float
    """Between two requests."""


@dataclass(frozen=True)
class Rotated:
    """What one new key cost."""

    grants: int
    cells: int
    before: Stretch
    meanwhile: Stretch
    left: int
    """Cells that are not under the new key."""
    bad: int
    """Lines of the log that nothing may lead to."""

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a cell, without what the exchanges beside it cost."""
        idle = self.before.cpu / self.before.seconds * self.meanwhile.seconds
        return (self.meanwhile.cpu - idle) / max(1, self.cells) * 1e6

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost and nothing is left."""
        return self.cells > 0 and not (self.left or self.bad)


def measure(ground: Ground, grants: int, rate: float) -> Rotated:
    """Rotate the key of a vault with GRANTS while RATE of them are refreshed a second."""
    begin = time.time() + LEAD
    busy = grants // 2  # the others are refreshed by nobody

    def due(number: int) -> float:
        return begin + number / rate if number < busy else begin + LATER

    with (
        ground.servers() as (endpoint, valkey),
        ground.daemon(endpoint, valkey, grants, due) as daemon,
    ):
        began = time.time()  # it may have taken longer to make than the lead
        daemon.start(ground.cores.measured)
        daemon.await_ready()
        wait_until(
            lambda: (
                list(daemon.lines("mirror.rebuilt"))
                and _latest(endpoint) > (time.time() - begin) * rate - rate
            ),
            description="everything is published, and nothing is overdue",
            within=PUBLISHED_WITHIN,
            every=0.5,
        )
        assert time.time() - began + BEFORE < busy / rate, "too few grants for this rate"
        looks = [_look(daemon)]
        time.sleep(BEFORE)
        looks.append(_look(daemon))
        told = subprocess.run(
            daemon.command("vault", "rotate-key", "--json"),
            check=True,
            capture_output=True,
            text=True,
        )
        looks.append(_look(daemon))
        came = {mark.came: mark.came - due(mark.grant) for mark in endpoint.marks()}
        before, meanwhile = (_stretch(came, *pair) for pair in pairwise(looks))
        _, *others = json.loads(told.stdout)["keys"]
        return Rotated(
            grants=grants,
            cells=sum(line["count"] for line in daemon.lines("vault.resealed")),
            before=before,
            meanwhile=meanwhile,
            left=sum(sum(key["sealed"].values()) for key in others),
            bad=sum(1 for event in BAD for _ in daemon.lines(event)),
        )


def _latest(endpoint: Endpoint) -> int:
    return max((mark.grant for mark in endpoint.marks()), default=0)


def _look(daemon: Daemon) -> tuple[float, float]:
    """The wall time, and the CPU of DAEMON."""
    return time.time(), cpu_seconds(daemon.pid)


def _stretch(
    came: dict[float, float], first: tuple[float, float], last: tuple[float, float]
) -> Stretch:
    """What happened between two looks; CAME says how late each request was."""
    inside = sorted(at for at in came if first[0] <= at < last[0])
    late: Sequence[float] = [came[at] for at in inside] or [float("inf")]
    ends = [first[0], *inside, last[0]]
    return Stretch(
        seconds=round(last[0] - first[0], 2),
        cpu=round(last[1] - first[1], 2),
        exchanges=len(inside),
        late_p50=round(percentile(late, 0.5), 4),
        late_p99=round(percentile(late, 0.99), 4),
        late_most=round(max(late), 4),
        longest_gap=round(max(later - earlier for earlier, later in pairwise(ends)), 4),
    )


def _told(found: Rotated) -> str:
    took = f"in {found.meanwhile.seconds:.1f} s, {found.cpu_us:.0f} us of CPU each"
    lines = [f"{found.cells} cells of {found.grants} grants {took}"]
    for name, one in (("before", found.before), ("meanwhile", found.meanwhile)):
        lines.append(
            f"{name}: {one.exchanges / one.seconds:.1f} exchanges a second, "
            f"{one.late_p50 * 1000:.0f}, {one.late_p99 * 1000:.0f} and {one.late_most * 1000:.0f} "
            f"ms late (p50, p99, most), {one.longest_gap:.2f} s between two at most, "
            f"{one.cpu / one.seconds:.0%} of a core"
        )
    lines.append(f"left under the old key: {found.left}; lines that none may lead to: {found.bad}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grants", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ground = Ground(Path(sys.executable))
    try:
        found = measure(ground, options.grants, options.rate)
    finally:
        ground.close()
    sys.stdout.write(_told(found))
    if options.json:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return int(not found.is_well)


if __name__ == "__main__":
    sys.exit(main())
