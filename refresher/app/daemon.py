"""One daemon on an open vault, from its first task to its last write.

Order of start: recovery, grants of the settings, publication, scheduler, control socket,
READY. Order of end: no new exchange, those in flight committed, what they changed
published; whoever opened the vault closes it last.
"""

import gc
import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from refresher import __version__
from refresher.acting import SETTINGS, acting
from refresher.app.answers import Daemon as About
from refresher.app.device_operations import DeviceOperations
from refresher.app.key_watch import KeyWatch
from refresher.app.looks import Looks
from refresher.app.parts import Core, Parts, opened_core, publisher_of
from refresher.app.reloaded import changed_clients, needing_restart
from refresher.app.secret_watch import SecretWatch
from refresher.app.servers import Servers
from refresher.app.signals import Signals
from refresher.app.stall import end_when_stalled
from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.engine.admission import Admission
from refresher.engine.files_watch import FilesWatch
from refresher.engine.recovery import readmit, recover
from refresher.engine.scheduler import Scheduler
from refresher.engine.supervision import supervise
from refresher.engine.watch import Watch
from refresher.errors import (
    SettingsError,
    VaultKeyError,
    VaultUnavailable,
)
from refresher.logs import Event, emit, subscribed
from refresher.ops.control import ControlServer
from refresher.ops.health import Verdict
from refresher.ops.http_listener import probe_routes, serving_http
from refresher.ops.notifications.telling import Telling
from refresher.ops.systemd import Notifier
from refresher.publication.inbox import Inbox
from refresher.publication.mirror.earlier_life import EarlierLives
from refresher.publication.mirror.life import Mirror
from refresher.settings.model import Settings
from refresher.settings.service_manager import service_manager
from refresher.threads import in_thread_of_its_own
from refresher.vault.changes import What
from refresher.vault.vault import Vault

if TYPE_CHECKING:
    from refresher.app.measuring import Measuring

PUBLISH_WITHIN = 5.0
"""Seconds the last publications may take at the end; Redis is a mirror and can wait."""

KEPT_WITHIN = 1.0
"""Seconds to write down what people are still to be told; a vault that hangs is not waited for."""

LEFT_OPEN = 1.0
"""Seconds to write down that late answers were given up; the service manager waits 5 s more
than the shutdown deadline before it kills."""

STATUS_INTERVAL = 5.0
"""Seconds between updates of the line ``systemctl status`` shows, and for the vault to be
read for one: a vault that hangs is told instead."""


COLLECTED_AFTER = 20_000
"""Objects more than there were before which nobody looks for cycles among them. A thousand
refreshes a second have some thousands under way, and Python would look every 700, at all of them:
4 % of a refresh."""

RESTS_FOR = 100
"""How many times as long as counting the grants took they are not counted again: it reads every
row, 75 ms for 50,000."""


class Daemon:
    """A daemon on an open vault, from its first task to its last write."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        vault: Vault,
        parts: Parts,
    ) -> None:
        self._settings = settings
        self._load = load
        self._vault = vault
        self._clock = clock = vault.clock
        self._parts = parts
        manager = service_manager()
        self._notifier = Notifier(
            manager.notify_socket, manager.watchdog_usec, monotonic=clock.monotonic
        )
        self._secrets = SecretWatch(settings, clock)
        self._publisher = publisher_of(self._secrets, settings.redis.prefix, clock, parts)
        server, keys = self._publisher.server, self._publisher.keys
        earlier = EarlierLives(publisher=self._publisher, source=vault, clock=clock)
        self._measuring = None if settings.http.listen is None else _measuring(clock)
        self._inbox = Inbox(server=server, keys=keys, clock=clock, earlier=earlier)
        self._mirror = Mirror(
            publisher=self._publisher,
            source=vault,
            clock=clock,
            instance=vault.holder,
            inbox=self._inbox,
            on_published=self._measuring.metrics.published if self._measuring else None,
        )
        self._telling = Telling(outbox=vault.outbox, targets=settings.targets, clock=clock)
        self._scheduler: Scheduler | None = None

    async def run(self, signals: Signals, started: Callable[[], None]) -> None:
        """Work until SIGTERM or SIGINT, then end in order.

        Args:
            signals: those that came during the start count as if they came after it.
            started: is called before anything is sent.

        Raises:
            VaultUnavailable: the vault refused before anything was sent.
            ListenerRefused: the control socket or the address of ``http`` cannot be opened.
        """
        with subscribed(self._telling.hear):
            await self._run(signals, started)

    async def _run(self, signals: Signals, started: Callable[[], None]) -> None:
        async with opened_core(
            self._secrets,
            self._vault,
            publish=self._mirror.publish,
            publish_committed=self._mirror.publish_committed,
            publish_behind=self._mirror.publish_behind,
            wake=self._wake,
            clock=self._clock,
            parts=self._parts,
        ) as core:
            admission = core.replicas.begin_exchanges()
            scheduler = self._scheduler = Scheduler(
                vault=self._vault,
                refresh=core.refresh,
                admission=admission,
                clients=core.clients,
                clock=self._clock,
                workers=self._settings.daemon.workers,
            )
            await recover(self._vault, core.clients, self._clock)
            await core.administration.apply_settings(self._settings.seeds)
            if signals.is_stopping:
                return
            started()
            # Whatever exists by now lives as long as the daemon: collecting it costs pauses.
            gc.collect()
            gc.freeze()
            gc.set_threshold(COLLECTED_AFTER, *gc.get_threshold()[1:])
            async with anyio.create_task_group() as tasks:
                self._start(core, scheduler, admission, tasks)
                async with self._listening(core, admission, scheduler):
                    self._notifier.ready()
                    emit(Event.DAEMON_READY, instance=self._vault.holder)
                    await self._until_told_to_stop(core, admission, signals)
                    self._notifier.stopping()
                    emit(Event.DAEMON_STOPPING, count=scheduler.in_flight)
                    tasks.start_soon(self._answer_impatience, scheduler, signals)
                    await self._drain(core, scheduler)
                tasks.cancel_scope.cancel()

    def _start(
        self, core: Core, scheduler: Scheduler, admission: Admission, tasks: TaskGroup
    ) -> None:
        watch = Watch(
            vault=self._vault,
            publish=self._mirror.publish,
            readmit=partial(readmit, self._vault, core.clients, self._clock),
            wake=scheduler.wake,
            held_back=lambda: admission.held_back(core.clients),
            clock=self._clock,
        )
        scheduler.start(tasks)
        supervised: dict[str, Callable[[], Awaitable[None]]] = {
            "mirror": self._mirror.run,
            "inbox": partial(self._inbox.run, core.administration.take_rejections),
            "watch": watch.run,
            "files": FilesWatch(vault=self._vault, clock=self._clock).run,
            "replicas": core.replicas.run,
            "restored commits": core.replicas.restore,
            "revoking": core.revoking.run,
            "metadata": core.discovering.run,
            "keeping": partial(core.keeping.run, self._settings.vault.keep),
            "resealing": self._vault.resealing.run,
            "key file": KeyWatch(self._settings.vault.key_file, self._vault.resealing).run,
            "notifications": self._telling.run,
            "secrets": partial(
                self._secrets.run,
                client_changed=partial(self._use_new_secret, admission),
                address_changed=self._publisher.server.move,
            ),
            "watchdog": self._notifier.feed_watchdog,
            "status": self._tell_status,
            "stall": partial(
                end_when_stalled,
                lambda: scheduler.turned_at,
                lambda: core.durability.at_risk,
                self._clock,
            ),
        }
        if self._measuring is not None:
            supervised["event loop"] = self._measuring.metrics.watch_loop
        for name, work in supervised.items():
            tasks.start_soon(supervise, name, work, name=name)

    @asynccontextmanager
    async def _listening(
        self, core: Core, admission: Admission, scheduler: Scheduler
    ) -> AsyncIterator[None]:
        about = About(version=__version__, pid=os.getpid(), instance=self._vault.holder)
        operations = core.operations(about).by_name()
        operations |= Looks(self._vault, core.clients).by_name()
        operations |= DeviceOperations(core.device_logins, core.administration).by_name()
        operations |= Servers(core.clients, core.discovering, core.registering).by_name()
        async with AsyncExitStack() as stack:
            routes = probe_routes(self._readiness)
            if self._measuring is not None:
                # Before anything is awaited: no exchange has begun that would not be counted.
                begun = self._measuring.begun(core, admission, scheduler, self._mirror)
                routes.append(self._measuring.metrics.route(stack.enter_context(begun)))
            server = ControlServer(
                self._settings.control.socket, operations=operations, is_ready=self._readiness
            )
            await stack.enter_async_context(server.serving())
            if self._settings.http.listen is not None:
                await stack.enter_async_context(serving_http(self._settings.http.listen, routes))
            yield

    def _readiness(self) -> Verdict:
        reasons: list[str] = []
        if self._vault.files.vanished:
            reasons += map(str, self._vault.files.vanished)
        elif (lacking := self._vault.resealing.lacking) is not None:
            reasons.append(lacking)
        elif self._vault.outage.is_on:
            reasons.append("the vault cannot be written")
        if not self._mirror.is_connected:
            why = self._mirror.last_error
            reasons.append(f"Redis cannot be used: {why}" if why else "Redis cannot be used")
        elif self._mirror.doubt is not None:
            reasons.append(f"Redis lets only a part be published: {self._mirror.doubt}")
        return Verdict(tuple(reasons))

    def _wake(self) -> None:
        if self._scheduler is not None:
            self._scheduler.wake()

    async def _until_told_to_stop(self, core: Core, admission: Admission, signals: Signals) -> None:
        """Reload at each SIGHUP; loading that hangs, or takes long, holds up no stop."""
        one_at_a_time = anyio.Lock()

        async def reload() -> None:
            async with one_at_a_time:
                await self._reload(core, admission)

        async with anyio.create_task_group() as reloads:
            async for number in signals:
                if number is not signal.SIGHUP:
                    reloads.cancel_scope.cancel()
                    return
                if not one_at_a_time.statistics().tasks_waiting:
                    reloads.start_soon(reload)

    async def _answer_impatience(self, scheduler: Scheduler, signals: Signals) -> None:
        """Say again what is being waited for; giving up could cost a refresh token."""
        async for number in signals:
            emit(Event.DAEMON_STOPPING, count=scheduler.in_flight, signal=number.name)

    async def _reload(self, core: Core, admission: Admission) -> None:
        """Take over clients and grants of the changed settings; exchanges in flight go on."""
        self._notifier.reloading()
        try:
            settings = await in_thread_of_its_own(self._load)
        except SettingsError as error:
            emit(Event.SETTINGS_REFUSED, problems=error.problems)
            self._notifier.ready()
            return
        except RuntimeError:
            problem = "they cannot be read, for want of a thread: send SIGHUP again later"
            emit(Event.SETTINGS_REFUSED, problems=[problem])
            self._notifier.ready()
            return
        try:
            await self._take_over(settings, core, admission)
        except VaultUnavailable as error:
            emit(Event.SETTINGS_REFUSED, problems=[f"{error}: send SIGHUP again when it is back"])
        except VaultKeyError as error:
            emit(Event.SETTINGS_REFUSED, problems=[f"{error}: mend it, then send SIGHUP again"])
        else:
            emit(
                Event.SETTINGS_RELOADED,
                clients=len(settings.clients),
                grants=len(settings.seeds),
                warnings=needing_restart(self._settings, settings),
            )
        self._notifier.ready()

    async def _take_over(self, settings: Settings, core: Core, admission: Admission) -> None:
        await self._vault.resealing.read_again()
        clients = await core.discovering.recalled(settings.clients)
        settings = replace(settings, clients=clients)
        changed = [c for c in settings.clients.values() if core.clients.get(c.name) != c]
        became = changed_clients(core.clients, settings.clients)
        self._secrets.take_over(settings)
        self._telling.take_over(settings.targets)
        await self._publisher.server.move(self._secrets.address)
        with acting(SETTINGS):
            for what, name in became:
                emit(Event.CLIENT_CHANGED, client=name, outcome=what.value)
            await self._vault.changes.note_clients(became)
        for client in changed:
            await self._begin_afresh(admission, client)
        await core.administration.apply_settings(settings.seeds)
        self._wake()

    async def _use_new_secret(self, admission: Admission, client: Client) -> None:
        """Let the grants of CLIENT be tried at once with what was found."""
        # A vault that refuses announces it, and its grants are due by themselves.
        with suppress(VaultUnavailable):
            await self._vault.changes.note_clients([(What.CLIENT_CHANGED, client.name)])
            await self._begin_afresh(admission, client)

    async def _begin_afresh(self, admission: Admission, client: Client) -> None:
        """Let CLIENT, which was changed, do what it was kept from; the loop is woken.

        Raises:
            VaultUnavailable: its grants stay due when they were.
        """
        admission.forget(client)
        await self._vault.hastening.blocked(client.name)
        self._wake()

    async def _drain(self, core: Core, scheduler: Scheduler) -> None:
        """Let exchanges end, then send what they changed to Redis."""
        with anyio.move_on_after(self._settings.daemon.shutdown_deadline) as waiting:
            await scheduler.drain()
        if waiting.cancelled_caught:
            scheduler.give_up_late()
            with anyio.move_on_after(LEFT_OPEN):
                await scheduler.drain()
        core.durability.abandon()
        with anyio.move_on_after(KEPT_WITHIN):
            await self._telling.keep()
        await self._mirror.drain(PUBLISH_WITHIN)
        await core.replicas.leave(KEPT_WITHIN)
        self._vault.abandon()

    async def _tell_status(self) -> None:
        """Keep the line up to date, where there is somebody to see it."""
        told, count_again_at = "", -math.inf
        while self._notifier.is_heard:
            began = self._clock.monotonic()
            if began >= count_again_at:
                told = "the vault cannot be read"
                with suppress(VaultUnavailable), anyio.move_on_after(STATUS_INTERVAL):
                    told = f"grants: {_in_words(await self._vault.counts())}"
                    count_again_at = began + RESTS_FOR * (self._clock.monotonic() - began)
            vault = "; the vault cannot be written" if self._vault.outage.is_on else ""
            redis = "" if self._mirror.is_connected else "; Redis is away"
            self._notifier.status(f"{told}{vault}{redis}")
            await anyio.sleep(STATUS_INTERVAL)


def _measuring(clock: Clock) -> "Measuring":
    """What counts for ``/metrics``: loaded by those daemons only that are scraped."""
    from refresher.app.measuring import Measuring  # noqa: PLC0415  see above

    return Measuring(clock)


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"
