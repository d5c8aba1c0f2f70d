"""The daemon on a wall clock that a file can step: ``... stepped_daemon CONFIG OFFSET_FILE``."""

import sys
from pathlib import Path

import anyio

from refresher import logs
from refresher.app import run_daemon
from refresher.clock import SystemClock
from refresher.settings.loading import load


class SteppedClock(SystemClock):
    """This machine's clock, plus the seconds that stand in a file."""

    def __init__(self, offset_file: Path) -> None:
        super().__init__()
        self._file = offset_file

    def now(self) -> float:
        """Wall time as the daemon is made to believe it."""
        return super().now() + float(self._file.read_text() or 0)


def main() -> None:
    """Run the daemon."""
    config, offset_file = map(Path, sys.argv[1:3])
    logs.configure(level="debug", json_lines=True)

    async def run() -> None:
        settings = load(config).settings
        await run_daemon(settings, lambda: load(config).settings, clock=SteppedClock(offset_file))

    anyio.run(run)


if __name__ == "__main__":
    main()
