"""The command line: ``python -m tests.failover [--grants 10000] [--only "SENTINEL FAILOVER"]``."""

import argparse
import json
import sys
from dataclasses import asdict

import tests.failover
from tests.failover.run import EVENTS, Measured, ground

HEADS = ("event", "named", "readable", "of that after naming", "missing", "regressions", "absent")


def table(found: dict[str, Measured]) -> str:
    """A line an event; times in seconds from the event."""
    rows = [
        HEADS,
        *(
            (
                event,
                f"{one.named:.2f}",
                f"{one.after_event:.2f}",
                f"{one.after_naming:.2f}",
                *map(str, (one.missing, one.regressions, one.absent)),
            )
            for event, one in found.items()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line; the exit status is 1 if a version went back or a token is gone."""
    parser = argparse.ArgumentParser(description=tests.failover.__doc__)
    parser.add_argument("--grants", type=int, default=10_000)
    parser.add_argument("--only", action="append", choices=list(EVENTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    here = ground()
    try:
        found = {
            event: EVENTS[event](here, options.grants) for event in options.only or list(EVENTS)
        }
    finally:
        here.close()
    sys.stdout.write(table(found))
    if options.json:
        told = {event: asdict(one) for event, one in found.items()}
        sys.stdout.write(json.dumps({"grants": options.grants, **told}) + "\n")
    return int(not all(one.is_well for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
