"""kill -9 at every boundary of one refresh, for each rotation profile; also a command.

``python -m tests.boundaries --times 100`` prints a row for each profile and boundary:
kills, grants lost, and how many of the lost were reported as ``rotation_lost``.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from tests.support.forked import FORKS, start
from tests.support.probed_daemon import BOUNDARIES, run_probed
from tests.support.rig import Rig

PROFILES = {"grace(30)": "grace", "until_used": "until_used", "strict": "strict"}
"""The client's profile to the sandbox's rotation."""

MAY_LOSE = {"after_send", "after_answer", "inside_commit"}
"""Under strict rotation: between the server's processing and the commit."""

LIFETIME = 2.0
REACHED_WITHIN = 30.0

JOBS = 4
"""Boundaries worked on side by side: a daemon that waits for its refresh costs nothing."""


@dataclass(frozen=True)
class Row:
    """What kills at one boundary did."""

    profile: str
    boundary: str
    kills: int
    lost: int
    """Grants that the daemon gave up, or whose family is dead at the server."""
    reported: int
    """Of the lost, how many the daemon reported as ``rotation_lost``."""
    slowest_ready: float
    """Seconds from the fork of a daemon until it was ready, at the most."""

    @property
    def holds(self) -> bool:
        """Whether this is what the guarantees promise."""
        may_lose = self.profile == "strict" and self.boundary in MAY_LOSE
        told = self.reported == self.lost
        return told and (may_lose or self.lost == 0)


class Ground:
    """A vault, and the daemons that die on it at one boundary."""

    def __init__(self, rig: Rig, profile: str, boundary: str) -> None:
        self._rig, self._profile, self._boundary = rig, profile, boundary
        self._names = 0

    def run(self, times: int) -> Row:
        """Kill TIMES times; each recovery is seen through by the next daemon."""
        ready: list[float] = []
        while len(ready) < times:
            if self._alive() == 0:
                self._settle()
                self._import()
            took = self._start_and_die()
            if took is not None:
                ready.append(took)
        self._settle()
        lost = self._rig.daemon.events("grant.lost")
        return Row(
            profile=self._profile,
            boundary=self._boundary,
            kills=times,
            lost=self._rig.lost(),
            reported=sum(str(line["reason"]).startswith("rotation_lost") for line in lost),
            slowest_ready=round(max(ready), 2),
        )

    def _import(self) -> None:
        """One more grant, added by a command of its own while no daemon runs."""
        [minted] = self._rig.sandbox.mint(1)
        self._names += 1
        line = {"name": f"g{self._names}", "client": "box"} | {
            "refresh_token": minted["refresh_token"]
        }
        self._rig.daemon.command("import", "-", text=json.dumps(line))

    def _start_and_die(self) -> float | None:
        """Seconds until the daemon was ready, dead at the boundary when this returns.

        None when the kill before cost the only grant, so that the boundary is out of reach.
        """
        daemon = self._rig.daemon
        ready, started, took = daemon.ready_count(), time.monotonic(), 0.0
        process = FORKS.Process(target=run_probed, args=(daemon.config, self._boundary, daemon.log))
        start(process)
        try:
            while process.is_alive():
                process.join(0.02 if not took else 0.5)
                if not took and daemon.ready_count() > ready:
                    took = time.monotonic() - started
                elif took and self._alive() == 0:
                    return None
                late = time.monotonic() - started > REACHED_WITHIN
                assert not late, f"{self._boundary} was not reached"
        finally:
            process.kill()
            process.join()
        assert process.exitcode == -signal.SIGKILL, daemon.log.read_text()[-3000:]
        return took

    def _settle(self) -> None:
        """Let an ordinary daemon resolve what the last kill left open."""
        if self._names:
            self._rig.daemon.start()
            time.sleep(LIFETIME)
            assert self._rig.daemon.stop() == 0

    def _alive(self) -> int:
        return sum(family["revoked_at"] is None for family in self._rig.sandbox.families())


def run_boundary(folder: Path, profile: str, boundary: str, times: int) -> Row:
    """TIMES kills at BOUNDARY under PROFILE, on a vault and a server of their own."""
    place = folder / f"{PROFILES[profile]}-{boundary}"
    place.mkdir()
    with Rig(
        place,
        rotation=profile,
        server={
            "rotation": PROFILES[profile],
            "access_token_lifetime": LIFETIME,
            "latency": (0.02, 0.12),
        },
    ) as rig:
        return Ground(rig, profile, boundary).run(times)


def run_boundaries(
    folder: Path,
    profiles: Sequence[str],
    boundaries: Sequence[str],
    times: int,
    *,
    jobs: int = JOBS,
) -> Iterator[Row]:
    """Every profile and boundary, TIMES kills each, JOBS of them side by side, in order."""
    with ThreadPoolExecutor(jobs) as pool:
        pairs = list(product(profiles, boundaries))
        yield from pool.map(lambda pair: run_boundary(folder, pair[0], pair[1], times), pairs)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--profile", choices=PROFILES, action="append")
    parser.add_argument("--boundary", choices=BOUNDARIES, action="append")
    parser.add_argument("--jobs", type=int, default=JOBS)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="refresher-boundaries-") as folder:
        for row in run_boundaries(
            Path(folder),
            options.profile or tuple(PROFILES),
            options.boundary or BOUNDARIES,
            options.times,
            jobs=options.jobs,
        ):
            failed |= not row.holds
            sys.stdout.write(json.dumps(asdict(row)) + "\n")
            sys.stdout.flush()
    return int(failed)
