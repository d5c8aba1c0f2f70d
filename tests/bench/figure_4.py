"""What a steady rate costs, and how late refreshes are: at 100, 300 and 500 a second.

The instants are drawn at random, as the daemon draws them. Lateness goes from the drawn
instant to the arrival of the request at the endpoint. From the answer two ways are measured:
to the consumer that reads the new token, and to the daemon's word that it is durable (the
line of the exchange, which is written after the commit); a kill in that window may cost a
strict grant.
"""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.ground import (
    NotMeasured,
    await_count,
    cpu_seconds,
    in_time,
    percentile,
    waited_seconds,
)
from tests.bench.processes import Ground, written_at
from tests.bench.servers import Readers
from tests.bench.session import Bar, Found, Row, Session

TITLE = "a steady rate: CPU, lateness, answer to durable and to readable"

RATES = (100, 300, 500)

GRACE = 10.0
"""Seconds that a daemon which falls behind gets beyond the last instant."""

GOALS = {100: "", 300: "<= 45 %; 30; 8/20; 15 ms", 500: "lateness <= 60 ms"}


@dataclass(frozen=True)
class Steady:
    """What one stretch at a rate gave; seconds."""

    cpu_share: float
    """CPU that the rate takes of a core: that of a refresh, idle time included, times the rate."""
    waited: float
    """The part of the time that the daemon's loop stood ready while others had its core."""
    served: float
    """The part of the grants that was refreshed before the grace was over."""
    lateness: Sequence[float]
    durable: Sequence[float]
    readable: Sequence[float]


def measure(session: Session) -> Found:
    """Each rate as often as the depth says; medians of the percentiles."""
    rows, bars, data = [], [], {}
    for rate in RATES:
        runs = []
        for number in range(session.depth.steady_rounds):
            run = steady(session.ground, rate, session.depth.steady_seconds, seed=number)
            session.progress(f"{rate}/s: {run.cpu_share:.0%} of a core, {run.served:.0%} served")
            runs.append(run)
        told = _told(runs)
        data[str(rate)] = told
        rows.append(
            Row(
                f"{rate}/s",
                f"{told['cpu']:.0%} of a core; {_triple(told['lateness_ms'])} ms late",
                GOALS[rate],
                f"answer to durable {_triple(told['durable_ms'])} ms, to readable "
                f"{_triple(told['readable_ms'])} ms (p50/p99/max); {told['served']:.0%} served; "
                f"others had its core for {told['waited']:.0%} of the time; runs: {len(runs)}",
            )
        )
        bars.append(Bar(f"{rate}/s", told["lateness_ms"]["p99"]))
    return Found(rows, data, bars, "lateness, p99, ms")


def steady(ground: Ground, rate: float, seconds: float, *, seed: int) -> Steady:
    """Refresh RATE grants a second for SECONDS."""
    return in_time(lambda lead: _steady(ground, rate, seconds, seed, lead))


def _steady(ground: Ground, rate: float, seconds: float, seed: int, lead: float) -> Steady:
    chance = random.Random(seed)  # noqa: S311  instants, not cryptography
    count = int(rate * seconds)
    with ground.servers() as (endpoint, valkey):
        begin = time.time() + lead
        drawn = [begin + chance.uniform(0, seconds) for _ in range(count)]
        with (
            ground.daemon(endpoint, valkey, count, drawn.__getitem__) as daemon,
            Readers(valkey, daemon.version) as readers,
        ):
            daemon.start_before(begin, ground.cores.measured)
            cpu, waited, began = cpu_seconds(daemon.pid), waited_seconds(daemon.pid), time.time()
            until = time.monotonic() + seconds + GRACE
            with suppress(NotMeasured):  # it fell behind: told as the part that was served
                await_count(
                    lambda: count if time.monotonic() > until else len(readers.renewed), count
                )
            cpu, waited = cpu_seconds(daemon.pid) - cpu, waited_seconds(daemon.pid) - waited
            waited /= time.time() - began
            marks = {mark.grant: mark for mark in endpoint.marks()}
            durable = {
                int(line["grant"].removeprefix("g")): written_at(line)
                for line in daemon.lines("exchange.succeeded")
            }
            return Steady(
                cpu_share=cpu / max(1, len(readers.renewed)) * rate,
                waited=waited,
                served=len(readers.renewed) / count,
                lateness=[mark.came - drawn[grant] for grant, mark in marks.items()],
                durable=[at - marks[grant].answered for grant, at in durable.items()],
                readable=[at - marks[grant].answered for grant, at in readers.renewed.items()],
            )


def _told(runs: Sequence[Steady]) -> dict[str, Any]:
    return {
        "cpu": round(median(run.cpu_share for run in runs), 4),
        "waited": round(median(run.waited for run in runs), 4),
        "served": round(median(run.served for run in runs), 4),
        "lateness_ms": _percentiles([run.lateness for run in runs]),
        "durable_ms": _percentiles([run.durable for run in runs]),
        "readable_ms": _percentiles([run.readable for run in runs]),
    }


def _percentiles(runs: Sequence[Sequence[float]]) -> dict[str, float]:
    """The medians over RUNS, in milliseconds."""
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        name: round(median(percentile(run, share) for run in runs) * 1000, 2)
        for name, share in shares.items()
    }


def _triple(values: dict[str, float]) -> str:
    return "/".join(f"{values[name]:.0f}" for name in ("p50", "p99", "max"))
