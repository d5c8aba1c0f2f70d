"""kill -9 at every boundary of one refresh, for each rotation profile; also a command.

``python -m tests.boundaries --times 100`` prints a row for each profile and boundary:
kills, grants lost, and how many of the lost were reported as ``rotation_lost``.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from refresher.publication.private_server import PrivateValkey
from tests.support.daemon import CLIENT, DaemonProcess
from tests.support.probed_daemon import BOUNDARIES
from tests.support.sandbox import SandboxProcess

PROFILES = {"grace(30)": "grace", "until_used": "until_used", "strict": "strict"}
"""The client's profile to the sandbox's rotation."""

MAY_LOSE = {"after_send", "after_answer", "inside_commit"}
"""Under strict rotation: between the server's processing and the commit."""

LIFETIME = 3.0
REACHED_WITHIN = 30.0


@dataclass(frozen=True)
class Row:
    """What kills at one boundary did."""

    profile: str
    boundary: str
    kills: int
    lost: int
    """Grants whose family is dead at the server, or that the daemon gave up."""
    reported: int
    """Of the lost, how many the daemon reported as ``rotation_lost``."""
    slowest_restart: float

    @property
    def holds(self) -> bool:
        """Whether this is what the guarantees promise."""
        may_lose = self.profile == "strict" and self.boundary in MAY_LOSE
        return self.reported == self.lost and (may_lose or self.lost == 0)


class Ground:
    """A sandbox, a Valkey, a vault, and the daemons that die on it."""

    def __init__(self, folder: Path, profile: str) -> None:
        self.profile = profile
        self._valkey = PrivateValkey()
        self._valkey.start()
        self._sandbox = SandboxProcess(
            rotation=PROFILES[profile], access_token_lifetime=LIFETIME, latency=(0.02, 0.12)
        )
        self._daemon = DaemonProcess(folder)
        client = CLIENT.format(
            name="box",
            base_url=self._sandbox.base_url,
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation=profile,
            more="",
        )
        self._daemon.prepare(redis_url=self._valkey.url, clients=client)
        self._names = 0

    def close(self) -> None:
        """Stop what runs."""
        self._sandbox.stop()
        self._valkey.stop()

    def run(self, boundary: str, times: int) -> Row:
        """Kill TIMES times at BOUNDARY; recovery is seen through by the next daemon."""
        lost_before, reported_before = self._lost(), self._reported()
        restarts: list[float] = []
        while len(restarts) < times:
            if self._alive() == 0:
                self._settle()
                self._import()
            took = self._start_and_die(boundary)
            if took is not None:
                restarts.append(took)
        self._settle()
        return Row(
            profile=self.profile,
            boundary=boundary,
            kills=times,
            lost=self._lost() - lost_before,
            reported=self._reported() - reported_before,
            slowest_restart=round(max(restarts), 2),
        )

    def _import(self) -> None:
        """One more grant, added by a command of its own while no daemon runs."""
        [minted] = self._sandbox.mint(1)
        self._names += 1
        line = {
            "name": f"g{self._names}",
            "client": "box",
            "refresh_token": minted["refresh_token"],
        }
        self._daemon.command("import", "-", text=json.dumps(line))

    def _start_and_die(self, boundary: str) -> float | None:
        """Seconds until the daemon was ready, dead at BOUNDARY when this returns.

        None when the kill before cost the only grant, so that the boundary is out of reach.
        """
        ready, started = self._daemon.ready_count(), time.monotonic()
        with self._daemon.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.probed_daemon",
                 str(self._daemon.config), boundary],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        took = 0.0
        while process.poll() is None:
            if not took and self._daemon.ready_count() > ready:
                took = time.monotonic() - started
            if self._alive() == 0:
                process.kill()
                process.wait()
                return None
            assert time.monotonic() - started < REACHED_WITHIN, f"{boundary} was not reached"
            time.sleep(0.02)
        assert process.returncode == -signal.SIGKILL, self._daemon.log.read_text()[-3000:]
        return took

    def _settle(self) -> None:
        """Let an ordinary daemon resolve what the last kill left open."""
        if self._names:
            self._daemon.start()
            time.sleep(LIFETIME)
            assert self._daemon.stop() == 0

    def _alive(self) -> int:
        return sum(family["revoked_at"] is None for family in self._sandbox.families())

    def _lost(self) -> int:
        return len(self._daemon.events("grant.lost"))

    def _reported(self) -> int:
        lost = self._daemon.events("grant.lost")
        return sum(str(event["reason"]).startswith("rotation_lost") for event in lost)


def run_boundaries(
    folder: Path, profiles: Sequence[str], boundaries: Sequence[str], times: int
) -> list[Row]:
    """Every profile and boundary, TIMES kills each."""
    rows: list[Row] = []
    for number, profile in enumerate(profiles):
        place = folder / str(number)
        place.mkdir()
        ground = Ground(place, profile)
        try:
            rows.extend(ground.run(boundary, times) for boundary in boundaries)
        finally:
            ground.close()
    return rows


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--profile", choices=PROFILES, action="append")
    parser.add_argument("--boundary", choices=BOUNDARIES, action="append")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="refresher-boundaries-") as folder:
        for row in run_boundaries(
            Path(folder),
            options.profile or tuple(PROFILES),
            options.boundary or BOUNDARIES,
            options.times,
        ):
            failed |= not row.holds
            sys.stdout.write(json.dumps(asdict(row)) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
