"""Running a daemon: open its vault, or stand by until the holder of it ends."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from refresher.app.daemon import Daemon
from refresher.app.parts import Parts
from refresher.app.signals import Signals
from refresher.clock import Clock
from refresher.errors import SettingsError, VaultInUse
from refresher.logs import Event, emit, flush, libraries
from refresher.settings.model import Settings
from refresher.threads import in_thread_of_its_own
from refresher.vault.opening import lock_path
from refresher.vault.sqlite.fence import Fence
from refresher.vault.vault import Vault

LATE_TOO = 2
"""Answers that can be open for each worker: one in its exchange, and one that comes late."""

STANDBY_INTERVAL = 0.1
"""Seconds between looks at the vault's lock while standing by."""


START_ENDS_WITHIN = 2.0
"""Seconds from SIGTERM until a start that hangs in a disk is left: nothing was sent by it."""


async def run_daemon(
    settings: Settings,
    load: Callable[[], Settings],
    *,
    signals: Signals | None = None,
    clock: Clock | None = None,
    parts: Parts | None = None,
) -> None:
    """Run the daemon of SETTINGS; LOAD reads them again at SIGHUP.

    Args:
        signals: what receives the signals of this process already, if something does.
        clock: None takes the vault's.

    Raises:
        RefresherError: it could not start; the text says why.
    """
    parts, signals = parts or Parts(), signals or Signals.received()
    signals.hold()
    libraries.take_over()
    try:
        with signals.heard_in_loop():
            emit(Event.DAEMON_STARTED, pid=os.getpid(), clients=len(settings.clients))
            await _run(settings, load, signals, clock, parts)
            emit(Event.DAEMON_STOPPED)
    finally:
        signals.ignore()


async def _run(
    settings: Settings,
    load: Callable[[], Settings],
    signals: Signals,
    clock: Clock | None,
    parts: Parts,
) -> None:
    async with _ending_a_start_that_hangs(signals) as started:
        opened = await _open_or_stand_by(settings, load, signals, clock, parts)
        if opened is None:
            return
        settings, vault = opened
        emit(Event.VAULT_OPENED, vault=settings.vault.location)
        try:
            await Daemon(settings, load, vault, parts).run(signals, started)
        finally:
            vault.close()


@asynccontextmanager
async def _ending_a_start_that_hangs(signals: Signals) -> AsyncIterator[Callable[[], None]]:
    """Leave the process some seconds after SIGTERM, unless what is given has been called.

    A write to the vault cannot be cancelled, and until the first exchange is sent a daemon
    that dies loses nothing.
    """
    until_started = anyio.CancelScope()

    async def end() -> None:
        with until_started:
            await signals.stopping()
            await anyio.sleep(START_ENDS_WITHIN)
            flush()
            os._exit(os.EX_OK)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        yield until_started.cancel
        until_started.cancel()


async def _open_or_stand_by(
    settings: Settings,
    load: Callable[[], Settings],
    signals: Signals,
    clock: Clock | None,
    parts: Parts,
) -> tuple[Settings, Vault] | None:
    """The open vault and the settings it was opened with; None when told to stop before."""
    waiting = False
    fence = Fence(lock_path(settings.vault.path))
    while not signals.is_stopping:
        try:
            vault = await parts.open_vault(
                settings.vault.path,
                settings.vault.key_file,
                url=settings.vault.url,
                # Each gate has a worker of its own, and no more gates than clients there are.
                answers=LATE_TOO * settings.daemon.workers + len(settings.clients),
                is_daemon=True,
                clock=clock,
            )
        except VaultInUse as error:
            if not settings.daemon.standby:
                raise
            if not waiting:
                emit(Event.DAEMON_WAITING, vault=str(settings.vault.path), pid=error.pid)
            waiting = True
            if fence.ends(error.pid):
                emit(Event.DAEMON_FENCED, vault=str(settings.vault.path), pid=error.pid)
        else:
            return settings, vault
        if signals.was_hung_up():
            settings = await _read_again(settings, load)
            fence = Fence(lock_path(settings.vault.path))
        with anyio.move_on_after(STANDBY_INTERVAL):
            await signals.stopping()
    return None


async def _read_again(settings: Settings, load: Callable[[], Settings]) -> Settings:
    """What LOAD gives, or SETTINGS where that is broken: a standby has used nothing of them yet."""
    try:
        read = await in_thread_of_its_own(load)
    except (SettingsError, RuntimeError) as error:
        problems = error.problems if isinstance(error, SettingsError) else [str(error)]
        emit(Event.SETTINGS_REFUSED, problems=problems)
        return settings
    emit(Event.SETTINGS_RELOADED, clients=len(read.clients), grants=len(read.seeds), warnings=[])
    return read
