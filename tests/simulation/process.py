"""One daemon: the real engine, composed as ``refresher.app`` composes it.

Its vault's thread and its token endpoint are this world's, so every await into the
outside is a place where something happens to it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from refresher.domain.clients import Client
from refresher.domain.outcomes import Outcome
from refresher.domain.renewal import Renewal
from refresher.domain.secret import Secret
from refresher.engine.administration import Administration
from refresher.engine.durability import Durability
from refresher.engine.logins import Logins
from refresher.engine.recovery import readmit, recover
from refresher.engine.refresh import Refresh
from refresher.engine.replicas import Replicas
from refresher.engine.revoking import Revoking
from refresher.engine.scheduler import Scheduler
from refresher.engine.watch import Watch
from refresher.errors import RefresherError, VaultKeyError, VaultUnavailable
from refresher.oauth.authorization import AuthorizationRequest
from refresher.oauth.patience import Patience
from refresher.oauth.revocation import RevocationResult
from refresher.vault.clock_steps import Following
from refresher.vault.rescue import RescueFile
from refresher.vault.sqlite.file_lock import FileLock
from refresher.vault.sqlite.files import Files
from refresher.vault.threads import Done
from refresher.vault.vault import Vault
from tests.simulation.disk import Fault
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Request
from tests.simulation.server import KINDS
from tests.support.renewals import secret_of
from tests.support.threads import Inline

if TYPE_CHECKING:
    from tests.simulation.world import World

WORKERS = 4
SLOTS = 2 * WORKERS + len(KINDS)
"""Of the rescue file: as many as answers can be open at once."""

SHUTDOWN_DEADLINE, LEFT_OPEN = 10.0, 5.0
"""Seconds a shutdown waits for exchanges in flight, as the settings say it, and then for the
writing of those whose answer did not come."""

KEYS_LOOKED_AT_EVERY = 5.0

GIVEN_UP_WITHIN = 8.0
"""Seconds that a visit to a disk that is not reached takes at the most."""


class Process:
    """A daemon from its start to its end; a crash is the loss of this object."""

    def __init__(self, world: "World", rescue_file: Path) -> None:
        self._world = world
        self.rescue_file = rescue_file
        self.loop = VirtualLoop(time=world.time, broken=world.broken)
        self.is_alive = True
        self.is_paused = False
        self.paused_at = 0.0
        """How far off the wall clock was when it was paused."""
        self.woke_at = 0.0
        self.is_stale = False
        """Another process took over while this one was paused."""
        self.is_cut_off = False
        """Nothing that it asks of the disk arrives."""
        self.reached_at = 0.0
        """When that was last over."""
        self.is_doomed = False
        """It dies where it stands, at its next await."""
        self.is_serving = False
        self.is_stopping = False
        self.workers = WORKERS
        """As many answers are read late at the most."""
        self.in_flight: dict[str, Request] = {}
        self.claimed: dict[str, tuple[int, float]] = {}
        """Sequence and instant of the last claim of each grant."""
        self.closed: dict[str, tuple[float, float]] = {}
        """When a Retry-After came for a client, and until when it asks to wait."""
        self.closing: dict[str, tuple[str, float]] = {}
        """The same of exchanges that are not yet durable, by grant."""
        self.busy: set[str] = set()
        """What people are doing through the control socket, by the grant they do it to."""
        self.backends: Any = None
        """What it can ask a shared database."""
        self._to_publish: dict[str, None] = {}
        self._rescue = RescueFile(rescue_file, slots=SLOTS, writer=Inline(), syncer=Inline())
        database = world.disk.database(_DiskThread(self))
        files = Files(rescue_file, Inline())
        self.vault = Vault(
            *(database, world.sealer_of(self), FileLock(rescue_file), self._rescue, files),
            following=Following(world.disk.moved()),
            **world.sharing(self),
        )
        self.main = self.loop.create_task(self._run())

    @property
    def is_running(self) -> bool:
        """Whether it owns the vault as far as it and everybody else knows."""
        return self.is_alive and not self.is_paused and not self.is_stale

    def terminate(self) -> None:
        """SIGTERM: shut down in order, once signals are received; before that, die."""
        if self.is_serving:
            self.loop.call_soon(self._stop.set)
        else:
            self.is_doomed = True

    def ask(self, name: str, work: Callable[["Process"], Awaitable[None]]) -> None:
        """Let a person do WORK to the grant NAME through the control socket."""
        if self.is_serving and not self.is_stopping and name not in self.busy:
            self.busy.add(name)
            self.loop.call_soon(lambda: self._tasks.start_soon(self._do, name, work))

    def end(self) -> None:
        """Nothing of it runs again; what is on the disk stays."""
        self.is_alive = self.is_serving = False
        self.loop.bury()
        self._rescue.close()

    async def refresh(
        self, client: Client, renewal: Renewal, *, patience: Patience, **_: object
    ) -> Outcome:
        """The token endpoint as this process sees it."""
        request = self._world.witness.wire.sending(self, client, secret_of(renewal))
        self.in_flight[request.name] = request
        self._world.people.interrupt(request.name)
        self._world.count_await()
        await self._die("crash while sending", 0.006)
        try:
            outcome = await self._world.network.refresh(request, patience)
        finally:
            self.in_flight.pop(request.name, None)
        await self._die("crash with the answer", 0.006)
        self._world.witness.received(request, outcome)
        return outcome

    async def redeem(self, client: Client, code: Secret, **_: object) -> Outcome:
        """The token endpoint for codes; a code carries the name of whom it authorizes."""
        self._world.count_await()
        await self._die("crash with a code", 0.01)
        return await self._world.network.redeem(code.reveal(), client)

    async def ready(self, client: Client) -> Client:
        """No client of the simulation leaves anything to its server."""
        return client

    async def push(self, _: Client, request: AuthorizationRequest) -> AuthorizationRequest:
        """No server of the simulation wants requests pushed."""
        return request

    async def revoke(
        self,
        client: Client,
        *,
        refresh_token: Secret | None,
        access_token: Secret | None,
        deadline: float,
    ) -> RevocationResult:
        """The revocation endpoint."""
        self._world.count_await()
        await self._die("crash while revoking", 0.02)
        with anyio.move_on_after(deadline):
            return await self._world.network.revoke(client.name, refresh_token, access_token)
        return RevocationResult.UNKNOWN

    def publish(self, name: str) -> None:
        """What the mirror's ``publish`` does: NAME is read again and sent."""
        self._to_publish[name] = None
        if self.is_serving:
            self._news.set()

    async def _run(self) -> None:
        """The daemon's life in the order of ``app.Daemon.run``."""
        self.vault.rescued.open()
        world, durability = self._world, Durability(self.vault)
        self._clock = clock = self.vault.clock
        refresh = Refresh(
            vault=self.vault,
            endpoint=self,
            durability=durability,
            publish=self.publish,
            clock=clock,
        )
        self.replicas = Replicas(
            vault=self.vault,
            clients=world.clients,
            durability=durability,
            publish=self.publish,
            wake=self._wake,
            clock=clock,
        )
        self.scheduler = scheduler = Scheduler(
            vault=self.vault,
            refresh=refresh,
            admission=self.replicas.begin_exchanges(),
            clients=world.clients,
            clock=clock,
            workers=WORKERS,
        )
        self.administration = Administration(
            vault=self.vault,
            clients=world.clients,
            publish=self.publish,
            wake=scheduler.wake,
            clock=clock,
        )
        self.logins = Logins(
            vault=self.vault,
            endpoint=self,
            ready=self.ready,
            push=self.push,
            clients=world.clients,
            durability=durability,
            publish=self.publish,
            wake=scheduler.wake,
            clock=clock,
        )
        self.revoking = Revoking(
            vault=self.vault,
            revoke=self.revoke,
            clients=world.clients,
            publish=self.publish,
            clock=clock,
        )
        try:
            await recover(self.vault, world.clients, clock)
            await self.administration.apply_settings(world.seeds)
            if not world.is_imported:
                await self.administration.import_grants(world.imports, replace=False)
                world.is_imported = True
        except VaultUnavailable:
            return  # as ``run`` does, it exits and says why; somebody starts it again
        world.witness.recovered(self)
        async with anyio.create_task_group() as tasks:
            self._serve(scheduler, tasks)
            await self._stop.wait()
            self.is_stopping = True
            with anyio.move_on_after(SHUTDOWN_DEADLINE) as waiting:
                await scheduler.drain()
            if waiting.cancelled_caught:
                scheduler.give_up_late()
                with anyio.move_on_after(LEFT_OPEN):
                    await scheduler.drain()
            durability.abandon()
            with anyio.move_on_after(5.0):
                await self._publish_waiting()
            if self.vault.leases.is_shared:
                await self.replicas.leave(1.0)
            self.vault.abandon()
            tasks.cancel_scope.cancel()

    def _wake(self) -> None:
        self.scheduler.wake()

    def _serve(self, scheduler: Scheduler, tasks: TaskGroup) -> None:
        self._stop, self._news, self._tasks = anyio.Event(), anyio.Event(), tasks
        self.is_serving = True
        watch = Watch(
            vault=self.vault,
            publish=self.publish,
            readmit=partial(readmit, self.vault, self._world.clients, self._clock),
            wake=scheduler.wake,
            held_back=tuple,
            clock=self._clock,
        )
        scheduler.start(tasks)
        tasks.start_soon(watch.run)
        tasks.start_soon(self.revoking.run)
        tasks.start_soon(self._publish_for_ever)
        if self.vault.leases.is_shared:
            tasks.start_soon(self.replicas.run)
            tasks.start_soon(self.replicas.restore)
        if self._world.rotates:
            self.vault.resealing.read_again = self._read_keys  # type: ignore[method-assign]  # its file is the world's
            tasks.start_soon(self.vault.resealing.run)
            tasks.start_soon(self._watch_keys)

    async def _read_keys(self) -> bool:
        return await self._world.read_keys(self)

    async def _watch_keys(self) -> None:
        """What the watch of the key file does."""
        while True:
            with suppress(VaultKeyError, VaultUnavailable):
                await self._read_keys()
            await anyio.sleep(KEYS_LOOKED_AT_EVERY)

    async def _publish_for_ever(self) -> None:
        await self._publish_everything()
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self._publish_waiting()

    async def _publish_everything(self) -> None:
        """What the mirror does when it begins."""
        while True:
            try:
                rows = await self.vault.walk(0, 1_000)
            except VaultUnavailable:
                await anyio.sleep(1.0)
                continue
            for row in rows:
                self._world.witness.published(self, row)
            return

    async def _publish_waiting(self) -> None:
        while self._to_publish:
            name = next(iter(self._to_publish))
            del self._to_publish[name]
            try:
                rows = await self.vault.read([name])
            except VaultUnavailable:
                self._to_publish[name] = None
                await anyio.sleep(1.0)
                continue
            for row in rows:
                self._world.witness.published(self, row)

    async def _do(self, name: str, work: Callable[["Process"], Awaitable[None]]) -> None:
        """A person at the control socket; whoever fails is told and tries again later."""
        try:
            await work(self)
        except RefresherError as error:
            self._world.chance.seen[f"refused to a person: {type(error).__name__}"] += 1
        finally:
            self.busy.discard(name)

    async def visit_disk(self, function: Callable[[], object], done: Done) -> None:
        """Run FUNCTION, the vault's statements, as a thread would."""
        world = self._world
        world.count_await()
        await asyncio.sleep(world.disk_latency())
        if self.is_cut_off:  # it is carried on once that is over, or given up
            await asyncio.sleep(world.chance.between(0.0, GIVEN_UP_WITHIN))
        await self._die("crash before the disk", 0.0008)
        self._at_the_disk(function)
        await self._die("crash after the disk", 0.0008)
        done(None)

    def _at_the_disk(self, function: Callable[[], object]) -> None:
        world = self._world
        world.disk.arm(self._disk_fault())
        try:
            function()
        finally:
            struck = world.disk.disarm()
            if struck is not None:
                world.disk_failed(struck)
            world.witness.look(self)
            world.committed()

    def _disk_fault(self) -> Fault | None:
        world, every = self._world, 150 * self._world.steadiness
        if world.is_disk_out or self.is_cut_off or world.chance.one_in(every):
            return Fault.REFUSE
        return Fault.FORGET if world.chance.one_in(every) else None

    async def _die(self, what: str, probability: float) -> None:
        """Perhaps be killed here: this await never returns."""
        if self._world.chance.strikes(what, probability / self._world.steadiness):
            self.is_doomed = True
            await self.loop.create_future()


class _DiskThread:
    """A thread of one process: its visits to the disk, one after another."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._visits: set[asyncio.Task[None]] = set()

    def submit(self, function: Callable[[], object], done: Done) -> None:
        visit = self._process.loop.create_task(self._process.visit_disk(function, done))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    def end(self, within: float) -> bool:
        return within >= 0
