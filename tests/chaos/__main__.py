"""The command."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

import tests.chaos
from tests.chaos.run import Row, holds, run_chaos


def table(result: dict[str, Any]) -> str:
    """A line a fault: how often, what it violated, the longest gap, the slowest healing."""
    heads = ("fault", *(name.removesuffix("_s") for name in asdict(Row())))
    lines = [heads, *((kind, *map(str, row.values())) for kind, row in result["rows"].items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    told = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    totals = {name: value for name, value in result.items() if name not in {"rows", "faults"}}
    return "\n".join([*told, *(f"{name} {value}" for name, value in totals.items())]) + "\n"


def main() -> int:
    """Run from the command line; the folder is a small tmpfs where that can be mounted."""
    parser = argparse.ArgumentParser(description=tests.chaos.__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", action="append", help="a torment, such as 'redis killed'")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-chaos-") as name:
        mounted = mount_small(Path(name))
        try:
            seconds, only = options.minutes * 60, options.only or ()
            result = anyio.run(run_chaos, Path(name), seconds, options.seed, only)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", name], check=True)  # noqa: S607  the system's
    sys.stdout.write(table(result))
    if options.json:
        sys.stdout.write(json.dumps({"seed": options.seed, **result}) + "\n")
    return 0 if holds(result) else 1


def mount_small(folder: Path) -> bool:
    """Mount 48 MiB of memory on FOLDER, so that a full disk hurts nobody else."""
    command = ["mount", "-t", "tmpfs", "-o", "size=112m,mode=700", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
