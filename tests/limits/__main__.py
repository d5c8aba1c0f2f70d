"""The command."""

import argparse
import json
import sys
from dataclasses import asdict

import tests.limits
from tests.limits.run import is_well, measure


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=tests.limits.__doc__)
    parser.add_argument("--grants", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=60.0)
    parser.add_argument("--kept", type=int, default=200, help="grants by the quota of a day")
    options = parser.parse_args()
    found = measure(options.grants, options.rate, options.kept)
    told = {part: asdict(one) for part, one in found.items()}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0 if is_well(found) else 1


if __name__ == "__main__":
    sys.exit(main())
