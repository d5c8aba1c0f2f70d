"""``python -m tests.startup``: what it costs to start a command, and a daemon that has no grant.

Prints; it judges nothing, for other work on the machine makes every figure larger.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

from tests.startup.measuring import (
    costly_imports,
    idle_daemon,
    median_cpu,
    own_megabytes,
    process_cpu_seconds,
    rss_megabytes,
)

ALONE = ("--version", "--help", "status --help", "providers", "check", "health", "status")
"""Commands that are measured without a daemon, and what is measured beside one."""
BESIDE = ("health", "status", "refresh nobody", "token nobody", "vault key-status")

AT_REST = 20.0
"""Seconds of the idle daemon whose CPU is counted."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.startup")
    parser.add_argument("--times", type=int, default=5, help="runs of each command")
    parser.add_argument("--imports", type=int, default=6, help="packages named for each command")
    options = parser.parse_args()
    with idle_daemon() as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        _say("beside a daemon")
        _print_costs(daemon.program, BESIDE, options)
        began = process_cpu_seconds(pid)
        time.sleep(AT_REST)
        at_rest = (process_cpu_seconds(pid) - began) / AT_REST
        memory = f"{rss_megabytes(pid):.1f} MB, {own_megabytes(pid):.1f} of them its own"
        _say(f"the idle daemon: {memory}, {at_rest:.2%} of one core")
        daemon.stop()
        _say("without a daemon")
        _print_costs(daemon.program, ALONE, options)


def _print_costs(
    program: Sequence[str], commands: Sequence[str], options: argparse.Namespace
) -> None:
    for command in commands:
        line = [*program, *command.split()]
        costs = dict(costly_imports(line, options.imports))
        _say(f"  {command:<20} {median_cpu(line, options.times):.3f} s   {_told(costs)}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _told(costs: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in costs.items())


if __name__ == "__main__":
    main()
