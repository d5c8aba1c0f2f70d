"""``python -m tests.simulation``: many worlds, one line of JSON at the end."""

import argparse
import json
import sys
import time
from collections import Counter

import tests.simulation
from tests.simulation import Violated, simulate

STEPS_EACH = 20_000


def main() -> int:
    """Run from the command line, in worlds of 20,000 steps."""
    parser = argparse.ArgumentParser(description=tests.simulation.__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1, help="processes on one vault")
    parser.add_argument("--rotates", action="store_true", help="they change the vault's key")
    options = parser.parse_args()
    seen: Counter[str] = Counter()
    started, done, seed, violations = time.monotonic(), 0, options.seed, 0
    while done < options.steps and not violations:
        steps = min(STEPS_EACH, options.steps - done)
        try:
            seen += simulate(steps, seed, options.replicas, rotates=options.rotates)
        except Violated as violated:
            violations = 1
            again = f"--steps {steps} --seed {seed} --replicas {options.replicas}"
            again += " --rotates" * options.rotates
            sys.stdout.write(f"{violated}\nreplay it: {again}\n")
        done, seed = done + steps, seed + 1
    took = round(time.monotonic() - started, 1)
    facts = {"steps": done, "seconds": took, "violations": violations}
    sys.stdout.write(json.dumps({**facts, **dict(sorted(seen.items()))}) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
