"""The daemon on a machine whose faults are files: ``... faulty_daemon CONFIG FOLDER``.

While FOLDER has a file named ``hang`` no commit and no fsync returns; ``full`` refuses every
commit as a full disk does; ``threads`` lets no thread start; with ``names`` no name that begins
with ``hanging`` is resolved. A number in ``stalled_after`` stands for the ten minutes after which
a stalled daemon ends itself.
"""

import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from refresher import logs
from refresher.app import stall
from refresher.app.standby import run_daemon
from refresher.settings.loading import load


def main() -> None:
    """Run the daemon."""
    config, folder = map(Path, sys.argv[1:3])
    logs.configure(level="debug", json_lines=True)
    _make_faulty(folder)

    async def run() -> None:
        await run_daemon(load(config).settings, lambda: load(config).settings)

    anyio.run(run)


def _make_faulty(folder: Path) -> None:
    def hang() -> None:
        while (folder / "hang").exists():
            time.sleep(0.01)

    @sa.event.listens_for(Engine, "commit")
    def committing(_: sa.Connection) -> None:
        hang()
        if (folder / "full").exists():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"
            raise sa.exc.OperationalError("COMMIT", None, error)

    def hanging(sync: Callable[[int], None]) -> Callable[[int], None]:
        def slow(descriptor: int) -> None:
            hang()
            sync(descriptor)

        return slow

    os.fsync, os.fdatasync = hanging(os.fsync), hanging(os.fdatasync)  # type: ignore[assignment]  # by descriptor only
    start = threading.Thread.start

    def start_if_possible(thread: threading.Thread) -> None:
        if (folder / "threads").exists():
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = start_if_possible  # type: ignore[method-assign, assignment]  # the fault
    resolve = socket.getaddrinfo

    def resolve_at_last(host: str, *arguments: Any, **named: Any) -> Any:
        while host.startswith("hanging") and (folder / "names").exists():
            time.sleep(0.01)
        return resolve(host, *arguments, **named)

    socket.getaddrinfo = resolve_at_last  # type: ignore[assignment]  # the fault
    if (folder / "stalled_after").exists():
        stall.STALLED_AFTER = float((folder / "stalled_after").read_text())


if __name__ == "__main__":
    main()
