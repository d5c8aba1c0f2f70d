"""kill -9 at random moments against a rotating server; also a command.

``python -m tests.kills --kills 50`` runs the whole and prints what happened. The server
answers in 50 to 500 ms, revokes a whole family when a refresh token is reused outside a
grace window of 30 s, and writes its own log, by which everything here is judged.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.rig import Rig, hits, overlaps_of_the_living

GRANTS = 16
LIFETIME = 4.0
"""Seconds: short, so that most kills hit an exchange in flight."""

LONGEST_LIFE = 1.5
"""Seconds a daemon lives after it became ready, at the most."""

AIMED = 0.85
"""Share of the kills that wait for an exchange to be in flight; the others fall anywhere."""

LONGEST_AIM = 0.15
"""Seconds after an exchange arrived at the server, at the most: before or after it rotates."""


@dataclass(frozen=True)
class Outcome:
    """What the kills did."""

    kills: int
    in_flight: int
    """Kills that hit at least one exchange, by the server's log."""
    exchanges: int
    lost: int
    """Grants revoked at the server or lost by the daemon's own word."""
    overlapping: int
    """Exchanges of one grant in flight at once from processes that were alive."""
    slowest_restart: float


def run_kills(folder: Path, kills: int, seed: int) -> Outcome:
    """Kill a daemon KILLS times and see what is left."""
    chance = random.Random(seed)  # noqa: S311  moments, not cryptography
    restarts = []
    with Rig(
        folder,
        more="concurrency = 16",
        rotation="grace(30)",
        server={
            "rotation": "grace",
            "grace_seconds": 30,
            "access_token_lifetime": LIFETIME,
            "latency": (0.05, 0.5),
            "seed": seed,
        },
    ) as rig:
        daemon = rig.daemon
        daemon.start()
        rig.import_grants(GRANTS)
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, LONGEST_LIFE))
            if chance.random() < AIMED:
                rig.await_exchange()
                time.sleep(chance.uniform(0.0, LONGEST_AIM))
            daemon.kill()
            started = time.monotonic()
            daemon.start()
            restarts.append(time.monotonic() - started)
        rig.await_all_fresh()
        assert daemon.stop() == 0
        return _judge(rig, max(restarts))


def _judge(rig: Rig, slowest: float) -> Outcome:
    log, kills = rig.sandbox.log(), rig.daemon.kills
    return Outcome(
        kills=len(kills),
        in_flight=sum(hits(log, killed_at) for killed_at in kills),
        exchanges=len(log),
        lost=rig.lost(),
        overlapping=len(overlaps_of_the_living(log, kills)),
        slowest_restart=round(slowest, 2),
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-kills-") as folder:
        outcome = run_kills(Path(folder), options.kills, options.seed)
    sys.stdout.write(json.dumps({"seed": options.seed, **asdict(outcome)}) + "\n")
    return 1 if outcome.lost or outcome.overlapping else 0
