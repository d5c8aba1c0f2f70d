"""Everything due at once at a server that throttles, and at one that refuses the client.

``python -m tests.storm --grants 10000 --rate 20`` starts the real daemon a day late by its
clock on grants that all have ended, against a server that takes RATE token requests a
second and answers 429 with a Retry-After to the rest; before that the client's secret is
wrong for a while. Judged by the server's own log and the daemon's.
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

from refresher.sandbox.exchange_log import ExchangeRecord
from tests.support.rig import Rig
from tests.support.waiting import wait_until

CONCURRENCY = 8
DAY = 86_400.0
RETRY_AFTER = 1.0
UNDER_WAY = 0.15
"""Seconds in which a request may still arrive that left before a refusal was heard."""

REFUSED_FOR = 5.0
"""Seconds for which the client's secret is wrong."""

TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class Outcome:
    """What the storm did."""

    grants: int
    seconds: float
    taken: int
    throttled: int
    hasty: int
    """Requests that came although a Retry-After still ran."""
    misplaced: int
    """Grants that were first tried more than CONCURRENCY places from their turn."""
    lost: int
    rejected_requests: int
    """Requests sent while the client was refused."""
    client_lines: int
    """Log lines that told of the refused client."""
    suspensions: int
    """Log lines that told of the throttling server."""

    @property
    def holds(self) -> bool:
        """Whether this is what the guarantees promise."""
        return (
            self.taken >= self.grants
            # Those that were out when the first word came, and the one that settles it.
            and self.rejected_requests <= CONCURRENCY + 1
            and self.client_lines == 1
            and not (self.hasty or self.misplaced or self.lost)
        )


def run_storm(
    folder: Path, grants: int, rate: float, seed: int, *, refused_for: float = REFUSED_FOR
) -> Outcome:
    """GRANTS due at once at a server that takes RATE requests a second."""
    with Rig(
        folder,
        rotation="strict",
        more=f"concurrency = {CONCURRENCY}",
        server={
            "rotation": "strict",
            "access_token_lifetime": 10 * DAY,
            "rate_limit": rate,
            "latency": (0.005, 0.02),
        },
    ) as rig:
        by_time_left = _import(rig, grants, seed)
        refused = _meet_refusal(rig, folder / "clock-offset", refused_for)
        took = _weather(rig, grants, within=60 + 3 * grants / rate)
        log = rig.sandbox.log(after=refused)
        assert rig.daemon.stop() == 0
        return Outcome(
            grants=grants,
            seconds=round(took, 1),
            taken=sum(record.generation_issued is not None for record in log),
            throttled=sum(record.status == TOO_MANY_REQUESTS for record in log),
            hasty=_hasty(log),
            misplaced=_misplaced(log, by_time_left),
            lost=rig.lost(),
            rejected_requests=refused,
            client_lines=len(rig.daemon.events("client.rejected")),
            suspensions=len(rig.daemon.events("endpoint.suspended")),
        )


def _import(rig: Rig, grants: int, seed: int) -> list[str]:
    """GRANTS with tokens that end within the day; their families, the earliest end first."""
    chance = random.Random(seed)  # noqa: S311  ends, not cryptography
    lines, ends = [], {}
    for number, minted in enumerate(rig.sandbox.mint(grants)):
        end = time.time() + chance.uniform(3_600, 43_200)
        ends[minted["family_id"]] = end
        lines.append(
            {
                "name": f"g{number}",
                "client": "box",
                "refresh_token": minted["refresh_token"],
                "access_token": minted["access_token"],
                "expires_at": end,
            }
        )
    rig.daemon.command("import", "-", text="\n".join(map(json.dumps, lines)))
    return sorted(ends, key=ends.__getitem__)


def _meet_refusal(rig: Rig, offset: Path, seconds: float) -> int:
    """Start a day late with a wrong secret; how many requests that cost."""
    offset.write_text(str(DAY))
    settings = rig.daemon.config.read_text()
    rig.daemon.config.write_text(settings.replace("sandbox-secret", "not-the-secret"))
    rig.daemon.start_stepped(offset)
    wait_until(lambda: rig.daemon.events("client.rejected"), description="client.rejected")
    time.sleep(seconds)
    rig.daemon.config.write_text(settings)
    return len(rig.sandbox.log())


def _weather(rig: Rig, grants: int, *, within: float) -> float:
    """Mend the client and let the storm pass; seconds it took."""
    issued, started = _issued(rig), time.monotonic()
    rig.daemon.hang_up()
    wait_until(
        lambda: _issued(rig) >= issued + grants,
        within=within,
        every=0.25,
        description="every grant is refreshed",
    )
    return time.monotonic() - started


def _issued(rig: Rig) -> int:
    issued: int = rig.sandbox.ask("/_sandbox/stats")["tokens_issued"]
    return issued


def _hasty(log: Sequence[ExchangeRecord]) -> int:
    """Requests that came although the server had asked to be left alone."""
    hasty, closed_from, closed_until = 0, 0.0, 0.0
    for record in sorted(log, key=lambda record: record.arrived_at):
        hasty += closed_from + UNDER_WAY < record.arrived_at < closed_until - UNDER_WAY
        if record.status == TOO_MANY_REQUESTS and record.answered_at is not None:
            if record.arrived_at > closed_until - UNDER_WAY:
                closed_from = record.answered_at
            closed_until = record.answered_at + RETRY_AFTER
    return hasty


def _misplaced(log: Sequence[ExchangeRecord], by_time_left: Sequence[str]) -> int:
    """Grants whose first exchange came out of their turn by more than what is in flight."""
    turn = {family: place for place, family in enumerate(by_time_left)}
    firsts: dict[str, int] = {}
    for record in sorted(log, key=lambda record: record.arrived_at):
        if record.family_id is not None:
            firsts.setdefault(record.family_id, len(firsts))
    return sum(abs(turn[family] - place) > CONCURRENCY for family, place in firsts.items())


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grants", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-storm-") as folder:
        outcome = run_storm(Path(folder), options.grants, options.rate, options.seed)
    sys.stdout.write(json.dumps({"seed": options.seed, **asdict(outcome)}) + "\n")
    return 0 if outcome.holds else 1
