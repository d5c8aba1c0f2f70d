"""Print the matrix of guarantees and faults; ends with 1 if anything does not hold.

``python -m tests.matrix`` runs the tests beside each failure seen at other projects, then
kills, takeovers, storms and chaos in a short form, or with ``--full`` in their whole one.
"""

import argparse
import json
import sys
from dataclasses import asdict

from tests.matrix.catalogue import FAILURES
from tests.matrix.report import Matrix, console, print_catalogue, print_matrix
from tests.matrix.runs import execute_all
from tests.matrix.shown import show


def main() -> int:
    """Run from the command line."""
    options = _parser().parse_args()
    out = console()
    wanted = [one for one in FAILURES if one.number in (options.failure or {one.number})]
    if options.list:
        print_catalogue(wanted, out)
        if options.json:
            _say_json([asdict(failure) for failure in wanted])
        return 0
    matrix = Matrix(
        failures=show(wanted) if options.only != "runs" else [],
        runs=execute_all(whole=options.full, announce=_announce)
        if options.only != "failures" and not options.failure
        else [],
    )
    print_matrix(matrix, out)
    if options.json:
        _say_json(matrix.as_json())
    return 0 if matrix.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the runs at their whole length")
    parser.add_argument("--only", choices=("failures", "runs"), help="one half of it")
    parser.add_argument("--failure", type=int, action="append", help="this one alone; repeatable")
    parser.add_argument("--list", action="store_true", help="the failures, running nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return parser


def _announce(command: str) -> None:
    """Tell whoever waits what is under way."""
    sys.stderr.write(f"python -m {command}\n")
    sys.stderr.flush()


def _say_json(content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")


if __name__ == "__main__":
    sys.exit(main())
