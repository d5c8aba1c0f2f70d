"""The daemon on a disk that takes its time: ``... slow_daemon CONFIG SECONDS``.

Every durable commit of the vault takes that much longer, as with a disk under load.
"""

import sys
import time
from pathlib import Path

import anyio
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from refresher import logs
from refresher.app.standby import run_daemon
from refresher.settings.loading import load


def main() -> None:
    """Run the daemon."""
    config, seconds = Path(sys.argv[1]), float(sys.argv[2])
    logs.configure(level="debug", json_lines=True)

    @sa.event.listens_for(Engine, "commit")
    def committing(_: sa.Connection) -> None:
        time.sleep(seconds)

    async def run() -> None:
        await run_daemon(load(config).settings, lambda: load(config).settings)

    anyio.run(run)


if __name__ == "__main__":
    main()
