"""The command."""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import anyio

import tests.replicas
from tests.replicas.run import run_replicas


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=tests.replicas.__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--grants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--logs", type=Path, help="an empty folder in which logs stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-replicas-") as name:
        folder = options.logs or Path(name)
        seconds = options.minutes * 60
        verdict = anyio.run(run_replicas, folder, seconds, options.grants, options.seed)
    sys.stdout.write(json.dumps({"seed": options.seed, **asdict(verdict)}) + "\n")
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
