"""The life of publication: connect, publish everything, keep it so, and start over.

Redis may be lost at any time and come back empty, old or as another server, so whatever
reconnects publishes everything again (guarantee G4). Meanwhile only names are
remembered: what is sent is read from the vault right before.
"""

from contextlib import suppress

import anyio
from anyio.abc import TaskStatus

from refresher.clock import Clock
from refresher.domain.grants import Publication
from refresher.errors import PublicationUnavailable
from refresher.logs import Event, emit
from refresher.publication.inbox import Inbox
from refresher.publication.mirror import polling
from refresher.publication.mirror.heartbeat import Heartbeat
from refresher.publication.mirror.outage import Outage
from refresher.publication.mirror.reconciler import SWEEP_EVERY, OnPublished, Reconciler
from refresher.publication.mirror.worklist import LOOK_AFTER, Worklist
from refresher.publication.publisher import Publisher
from refresher.publication.server import tracking
from refresher.publication.server.clock import Steps
from refresher.publication.server.connection import Server
from refresher.publication.server.faults import Moved
from refresher.publication.source import Source

RETRY_FROM, RETRY_TO = 0.1, 1.0
"""Seconds before a lost Redis is tried again: at first, and at most."""

STEADY = 5.0
"""Seconds a connection must last before a new loss is retried quickly again."""

CHECK_SERVER_EVERY = 60.0
"""Seconds between two looks at Redis' clock and settings."""

LOOK_AT_CLOCK_EVERY = 1.0
"""Seconds between two looks at our own clock."""

FAREWELL = 1.0
"""Seconds the last command, deleting the heartbeat, may take."""


class Mirror:
    """Keeps Redis showing what the vault holds.

    Args:
        instance: names the daemon's heartbeat key.
        inbox: is told when Redis answers, and what consumers write.
        sweep_every: seconds between two slow walks over everything.
        look_after: seconds from a write of ours to the look at what became of it.
        on_published: called with grant, version and seconds from ``publish`` to the
            acknowledged publication.
    """

    def __init__(
        self,
        *,
        publisher: Publisher,
        source: Source,
        clock: Clock,
        instance: str,
        inbox: Inbox,
        sweep_every: float = SWEEP_EVERY,
        look_after: float = LOOK_AFTER,
        on_published: OnPublished | None = None,
    ) -> None:
        self._publisher = publisher
        self._inbox = inbox
        self._clock = clock
        self._worklist = Worklist(clock.monotonic, look_after)
        self._reconciler = Reconciler(
            publisher=publisher,
            source=source,
            clock=clock,
            worklist=self._worklist,
            sweep_every=sweep_every,
            on_published=on_published,
        )
        self._heartbeat = Heartbeat(
            server=publisher.server,
            keys=publisher.keys,
            rights=publisher.rights,
            instance=instance,
            started_at=clock.now(),
        )
        self._scope = anyio.CancelScope()
        self._connected_at: float | None = None
        self._outage: Outage | None = None
        self._failures = 0
        self.last_error: str | None = None
        """Why Redis could not be used last; None while it can."""

    @property
    def is_connected(self) -> bool:
        """Whether Redis takes publications."""
        return self._connected_at is not None

    @property
    def doubt(self) -> str | None:
        """What Redis forbids although it answers; None if nothing."""
        return self._publisher.rights.doubt

    def publish(self, name: str) -> None:
        """Say that the vault holds something new of NAME; it is sent at once."""
        self._worklist.mark(name)

    def publish_committed(self, publication: Publication) -> None:
        """The same, where PUBLICATION is what was committed just now."""
        self._worklist.mark(publication.grant.name, publication)

    def publish_behind(self, number: int) -> None:
        """The same of every grant with an id above NUMBER: all of them are new."""
        self._worklist.publish_behind(number)

    async def run(self) -> None:
        """Mirror until ``drain`` has ended it or the caller is cancelled."""
        with self._scope:
            while True:
                try:
                    await self._session()
                except* PublicationUnavailable as group:
                    await self._lost(group)
                await anyio.sleep(self._pause())

    async def drain(self, deadline: float) -> None:
        """Send what is marked, for up to DEADLINE seconds while connected, and end ``run``.

        What could not be sent is in the vault and is published by the next daemon.
        """
        with anyio.move_on_after(deadline):
            if self.is_connected:
                await self._worklist.wait_until_sent()
        self._scope.cancel()
        if self.is_connected:
            # A heartbeat that cannot be deleted ends by itself.
            with anyio.move_on_after(FAREWELL), suppress(PublicationUnavailable):
                await self._heartbeat.end()
        self._connected_at = None

    async def _session(self) -> None:
        """One connection's life; returns only by an exception.

        Tracking is on before the first token is written, so nothing that happens to a
        key afterwards is missed.
        """
        server = self._publisher.server
        await server.find()
        async with anyio.create_task_group() as group:
            group.start_soon(server.follow)
            await self._publisher.connect()
            tracks = [await group.start(self._watch, master) for master in server.masters]
            is_tracking = all(tracks)
            self._reconciler.restart(polling=not is_tracking)
            # Redis counts as connected once it has taken a write and the first batch.
            await self._heartbeat.beat()
            await self._reconciler.step()
            self._connected()
            self._inbox.connected(is_tracking=is_tracking)
            group.start_soon(self._reconciler.work)
            group.start_soon(self._heartbeat.run)
            group.start_soon(self._check_server)
            if not is_tracking:
                group.start_soon(self._poll)

    async def _watch(self, master: Server, *, task_status: TaskStatus[bool]) -> None:
        keys, heard = self._publisher.keys, self._inbox.heard
        await tracking.watch(master, keys, self._changed, heard, task_status=task_status)

    async def _poll(self) -> None:
        await polling.poll(
            publisher=self._publisher,
            reconciler=self._reconciler,
            worklist=self._worklist,
            clock=self._clock,
        )

    async def _check_server(self) -> None:
        steps, checked_at = Steps(self._clock), self._clock.monotonic()
        while True:
            await anyio.sleep(LOOK_AT_CLOCK_EVERY)
            was_stepped = steps.was_stepped()
            if was_stepped:
                self._reconciler.sweep_now()
            if was_stepped or self._clock.monotonic() - checked_at >= CHECK_SERVER_EVERY:
                await self._publisher.check_server()
                checked_at = self._clock.monotonic()

    def _changed(self, name: str | None) -> None:
        """Somebody, perhaps we, changed a key of NAME, or flushed everything."""
        if name is None:
            self._worklist.rebuild("flushed")
        else:
            self._worklist.suspect(name)

    def _connected(self) -> None:
        now = self._clock.monotonic()
        outage = self._outage
        away = {} if outage is None else {"waited_ms": round((now - outage.began_at) * 1000)}
        self._connected_at, self._outage, self.last_error = now, None, None
        emit(Event.REDIS_CONNECTED, server=self._publisher.server.where, **away)

    async def _lost(self, group: ExceptionGroup[PublicationUnavailable]) -> None:
        """Note the loss and announce it, and make sure no dead connection is used again.

        Masters that have others in their place are no loss.
        """
        now = self._clock.monotonic()
        was_steady = self._connected_at is not None and now - self._connected_at > STEADY
        self._failures = 1 if was_steady else self._failures + 1
        self._connected_at = None
        where = self._publisher.server.where
        self.last_error = _first(group)
        if (moved := group.subgroup(Moved)) is not None:
            self.last_error = _first(moved)
            emit(Event.REDIS_MOVED, server=where, reason=self.last_error)
        else:
            self._outage = self._outage or Outage(now)
            if self._outage.is_news(self.last_error, now):
                emit(Event.REDIS_LOST, server=where, reason=self.last_error)
        await self._publisher.server.disconnect()

    def _pause(self) -> float:
        """Doubling with jitter: half of it is drawn."""
        longest: float = min(RETRY_TO, RETRY_FROM * 2 ** min(self._failures - 1, 10))
        return longest * (1 + self._clock.draw()) / 2


def _first(error: BaseException) -> str:
    """The text of the first error in nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
