"""The command."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

import tests.night
from tests.chaos.__main__ import mount_small
from tests.night.run import Night
from tests.night.told import report


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=tests.night.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="the provider is down")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-night-") as name:
        folder = Path(name) / "vault"
        folder.mkdir()
        if not mount_small(folder):
            sys.stderr.write("a small file system cannot be mounted: run this as root\n")
            return 1
        try:
            night = Night(folder, Path(name), options.minutes * 60)
            anyio.run(night.run)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607  the system's
    text, is_well = report(night)
    sys.stdout.write(text)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
