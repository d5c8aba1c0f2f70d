"""The command."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import tests.hostile
from tests.hostile.run import (
    CLIENTS,
    FLOODS,
    GRANTS,
    KINDS,
    LAG_FACTOR,
    Lag,
    Outcome,
    run_hostile,
)

LONGEST_CONTROL = 120.0
"""Seconds of the run without hostile clients at the most: it shows the same after a while."""


def table(outcome: Outcome) -> str:
    """What there was, and what became of the others."""
    kinds = [
        f"  {what:<52} {outcome.requests[kind]:>7} requests" for kind, what in outcome.kinds.items()
    ]
    honest = (
        f"absent in {outcome.honest_absent} of {outcome.looks} looks, "
        f"refreshed {outcome.honest_refreshes} times, {outcome.honest_state}"
    )
    healthy = f"absent in {outcome.healthy_absent} of {outcome.healthy * outcome.looks} looks"
    verdicts = (
        f"nobody else lost a token: {_told(outcome.is_apart)}; "
        f"p99.9 at most {LAG_FACTOR:g} times as long: {_told(outcome.is_prompt)}"
    )
    lines = [
        f"{CLIENTS} clients with {GRANTS} grants each, for {outcome.seconds:g} s, that",
        *kinds,
        "beside",
        f"  an honest strict grant   {honest}",
        f"  {outcome.healthy} accounts not refused  {healthy}",
        f"  grants lost              {outcome.lost}",
        "lag of the loop, ms          p50      p99    p99.9  longest",
        _lag_line("without hostile clients", outcome.control),
        _lag_line("with them", outcome.lag),
        f"shown: {_told(outcome.holds)} ({verdicts})",
    ]
    return "\n".join(lines) + "\n"


def _told(verdict: bool) -> str:  # noqa: FBT001  it is what is told
    return "yes" if verdict else "NO"


def _lag_line(what: str, lag: Lag) -> str:
    figures = (lag.p50, lag.p99, lag.p999, lag.longest)
    return f"  {what:<24}" + "".join(f"{figure:>9.2f}" for figure in figures)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=tests.hostile.__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--floods", action="store_true", help="beside them, servers that send without an end"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="refresher-hostile-") as folder:
        outcome = run_hostile(
            Path(folder),
            seconds,
            control_seconds=min(seconds, LONGEST_CONTROL),
            kinds={**KINDS, **FLOODS} if options.floods else KINDS,
        )
    sys.stdout.write(table(outcome))
    if options.json:
        sys.stdout.write(json.dumps({"holds": outcome.holds, **asdict(outcome)}) + "\n")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
