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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from refresher.publication.private_server import PrivateValkey
from refresher.sandbox.exchange_log import ExchangeRecord, overlaps
from tests.support.daemon import CLIENT, DaemonProcess, wait_until
from tests.support.sandbox import SandboxProcess

GRANTS = 16
LIFETIME = 4.0
"""Seconds: short, so that most kills hit an exchange in flight."""

LONGEST_LIFE = 1.5
"""Seconds a daemon lives after it became ready, at the most."""

AIMED = 0.85
"""Share of the kills that wait for an exchange to be in flight; the others fall anywhere."""

LONGEST_AIM = 0.15
"""Seconds after an exchange arrived at the server, at the most: before or after it rotates."""

RESTART_WITHIN = 5.0


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
    valkey = PrivateValkey()
    valkey.start()
    sandbox = SandboxProcess(
        rotation="grace",
        grace_seconds=30,
        access_token_lifetime=LIFETIME,
        latency=(0.05, 0.5),
        seed=seed,
    )
    daemon = DaemonProcess(folder)
    restarts = []
    try:
        client = CLIENT.format(
            name="box",
            base_url=sandbox.base_url,
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation="grace(30)",
            more="concurrency = 16",
        )
        daemon.prepare(redis_url=valkey.url, clients=client)
        daemon.start()
        _import(daemon, sandbox)
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, LONGEST_LIFE))
            if chance.random() < AIMED:
                _await_exchange(sandbox)
                time.sleep(chance.uniform(0.0, LONGEST_AIM))
            daemon.kill()
            started = time.monotonic()
            daemon.start()
            restarts.append(time.monotonic() - started)
        wait_until(
            lambda: all(grant["state"] == "fresh" for grant in _grants(daemon)),
            within=30,
            every=0.5,
            description="every grant is fresh after the last kill",
        )
        assert daemon.stop() == 0
        return _judge(daemon, sandbox, max(restarts))
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        sandbox.stop()
        valkey.stop()


def _await_exchange(sandbox: SandboxProcess) -> None:
    """Return when the server has a request whose answer has not left."""
    seen = len(sandbox.log())
    wait_until(
        lambda: any(
            record.answered_at is None and record.gone_at is None
            for record in sandbox.log(after=seen)
        ),
        within=30,
        every=0.005,
        description="an exchange is in flight",
    )


def _import(daemon: DaemonProcess, sandbox: SandboxProcess) -> None:
    lines = [
        json.dumps({"name": f"g{n}", "client": "box", "refresh_token": grant["refresh_token"]})
        for n, grant in enumerate(sandbox.mint(GRANTS))
    ]
    daemon.command("import", "-", text="\n".join(lines))


def _grants(daemon: DaemonProcess) -> list[dict[str, object]]:
    answer = daemon.command("status", "--json", check=None)
    grants: list[dict[str, object]] = json.loads(answer.stdout)["grants"]
    return grants


def _judge(daemon: DaemonProcess, sandbox: SandboxProcess, slowest: float) -> Outcome:
    log = sandbox.log()
    revoked = [family for family in sandbox.families() if family["revoked_at"] is not None]
    return Outcome(
        kills=len(daemon.kills),
        in_flight=sum(_hits(log, killed_at) for killed_at in daemon.kills),
        exchanges=len(log),
        lost=max(len(revoked), len(daemon.events("grant.lost"))),
        overlapping=len(_overlaps_of_the_living(log, daemon.kills)),
        slowest_restart=round(slowest, 2),
    )


def _hits(log: Sequence[ExchangeRecord], killed_at: float) -> bool:
    return any(
        record.arrived_at <= killed_at
        and (record.answered_at is None or record.answered_at > killed_at)
        and killed_at - record.arrived_at < 1.0
        for record in log
    )


def _overlaps_of_the_living(
    log: Sequence[ExchangeRecord], kills: Sequence[float]
) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
    """Overlapping pairs with no kill between them: both came from a process that was alive."""
    return [
        (first, second)
        for first, second in overlaps(log)
        if not any(first.arrived_at <= at <= second.arrived_at for at in kills)
    ]


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


if __name__ == "__main__":
    sys.exit(main())
