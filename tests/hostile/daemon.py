"""The daemon with a name server that can hang, measured: ``... daemon CONFIG LAGS_FILE``.

Production code has no switch for either: this entry puts itself before ``getaddrinfo``, and
at SIGUSR1 writes what a task beside the daemon's has measured.
"""

import asyncio
import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from refresher import logs
from refresher.app.standby import run_daemon
from refresher.settings.loading import load

HANGS = ".hangs.test"
"""Names below it are answered by silence."""

HANGING = 40.0
"""Seconds glibc waits for a name server that is gone, with four tries at two of them."""

EVERY = 0.01
"""Seconds a measuring task sleeps; what it sleeps longer is the lag of the loop."""


def hang_names() -> None:
    """Let lookups below ``HANGS`` hang in their thread, as getaddrinfo does."""
    look_up: Any = socket.getaddrinfo

    def hanging(host: object, *arguments: Any, **named: Any) -> Any:
        if str(host).endswith(HANGS):
            time.sleep(HANGING)
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")
        return look_up(host, *arguments, **named)

    socket.getaddrinfo = hanging


async def measure(lags: list[tuple[float, float]]) -> None:
    """Write into LAGS when the loop was late, in monotonic time, and by how many seconds."""
    while True:
        due_at = time.monotonic() + EVERY
        await anyio.sleep(EVERY)
        now = time.monotonic()
        lags.append((now, max(now - due_at, 0.0)))


def main() -> None:
    """Run the daemon."""
    config, file = Path(sys.argv[1]), Path(sys.argv[2])
    logs.configure(level="debug", json_lines=True)
    hang_names()
    lags: list[tuple[float, float]] = []

    def write() -> None:
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(lags))
        unfinished.replace(file)

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, write)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(measure, lags)
            await run_daemon(load(config).settings, lambda: load(config).settings)
            tasks.cancel_scope.cancel()

    anyio.run(run)


if __name__ == "__main__":
    main()
