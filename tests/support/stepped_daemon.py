"""The daemon on a wall clock that a file can step: ``... stepped_daemon CONFIG OFFSET_FILE``."""

import sys
from pathlib import Path

import anyio

from refresher import logs
from refresher.app.standby import run_daemon
from refresher.clock import SystemClock
from refresher.settings.loading import load
from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_until


class SteppedClock(SystemClock):
    """This machine's clock, plus the seconds that stand in a file."""

    def __init__(self, offset_file: Path) -> None:
        super().__init__()
        self._file = offset_file
        self._offset = 0.0

    def now(self) -> float:
        """Wall time as the daemon is made to believe it."""
        # A file that is being written may be empty for a moment.
        self._offset = float(self._file.read_text() or self._offset)
        return super().now() + self._offset


class Stepping:
    """Runs a folder's daemon on a clock of its own.

    Args:
        daemon: whose ``process`` is the stepped one, once it is started here.
    """

    def __init__(self, daemon: DaemonProcess, offset: float = 0.0) -> None:
        self._daemon = daemon
        self._file = daemon.folder / "offset"
        self.offset = offset
        """Seconds the daemon's clock is ahead of this machine's."""
        self.step(0)

    def step(self, seconds: float) -> None:
        """Step the daemon's clock, whether it runs or not."""
        self.offset += seconds
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(str(self.offset))
        unfinished.replace(self._file)

    def start(self) -> None:
        """Start the daemon and wait until it says that it is ready."""
        seen = self._daemon.ready_count()
        self._daemon.start_stepped(self._file)
        wait_until(
            lambda: self._daemon.ready_count() > seen,
            description=f"the daemon is ready: {self._daemon.log.read_text()[-3000:]}",
        )


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
