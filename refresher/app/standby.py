"""Running a daemon: open its vault, or stand by until the holder of it ends."""

import os
from collections.abc import Callable

import anyio

from refresher.app.daemon import Daemon
from refresher.app.parts import Parts
from refresher.clock import Clock, SystemClock
from refresher.errors import VaultInUse
from refresher.logs import Event, emit
from refresher.settings.model import Settings
from refresher.vault.fence import Fence
from refresher.vault.opening import lock_path
from refresher.vault.vault import Vault

LATE_TOO = 2
"""Answers that can be open for each worker: one in its exchange, and one that comes late."""

STANDBY_INTERVAL = 0.1
"""Seconds between looks at the vault's lock while standing by."""


async def run_daemon(
    settings: Settings,
    load: Callable[[], Settings],
    *,
    clock: Clock | None = None,
    parts: Parts | None = None,
) -> None:
    """Run the daemon of SETTINGS; LOAD reads them again at SIGHUP.

    Raises:
        RefresherError: it could not start; the text says why.
    """
    clock, parts = clock or SystemClock(), parts or Parts()
    emit(Event.DAEMON_STARTED, pid=os.getpid(), clients=len(settings.clients))
    vault = await _open_or_stand_by(settings, parts)
    emit(Event.VAULT_OPENED, vault=str(settings.vault.path))
    try:
        await Daemon(settings, load, vault, clock, parts).run()
    finally:
        vault.close()
        emit(Event.DAEMON_STOPPED)


async def _open_or_stand_by(settings: Settings, parts: Parts) -> Vault:
    waiting = False
    fence = Fence(lock_path(settings.vault.path))
    while True:
        try:
            return await parts.open_vault(
                settings.vault.path,
                settings.vault.key_file,
                # Each gate has a worker of its own, and no more gates than clients there are.
                answers=LATE_TOO * settings.daemon.workers + len(settings.clients),
            )
        except VaultInUse as error:
            if not settings.daemon.standby:
                raise
            if not waiting:
                emit(Event.DAEMON_WAITING, vault=str(settings.vault.path), pid=error.pid)
            waiting = True
            if fence.ends(error.pid):
                emit(Event.DAEMON_FENCED, vault=str(settings.vault.path), pid=error.pid)
        await anyio.sleep(STANDBY_INTERVAL)
