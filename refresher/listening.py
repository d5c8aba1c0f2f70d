"""The open connections of a listener: few, and none that does nothing stays.

Whoever can connect can also connect a thousand times, send one byte a minute, or never read
an answer. A server that accepts all of it ends without file descriptors, and with it every
refresh.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from refresher.logs import Event, emit

MOST = 64
"""Connections open at once. One more takes the place of the one that is idle for longest, so
that a peer who holds them all keeps nobody out."""

IDLE_WITHIN = 10.0
"""Seconds a connection may stay without a request at work: for a request's head to come, and
for the last answer to be read."""

LOOK_EVERY = 1.0
"""Seconds between looks for idle connections."""

CROWDED = 0.01
"""Seconds between two connections where one has to go for the other: a flood costs no more."""

EXHAUSTED = 1.0
"""Seconds until the next try where no file descriptor is left."""

BACKLOG = 128
"""Connections that wait in the kernel."""


@dataclass(slots=True, eq=False)
class _Connection:
    transport: asyncio.Transport
    idle_since: float
    unsent: int = 0
    """Bytes of an answer that wait to be read, at the last look."""
    requests: int = 0
    """Requests at work: of one that has any nothing is cut off."""


class Connections:
    """Accepts for one server.

    Args:
        protocol: makes the protocol of a new connection.
    """

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._protocol = protocol
        self._open: dict[asyncio.BaseProtocol, _Connection] = {}
        self._tasks: list[asyncio.Future[None]] = []
        self._listeners: Sequence[socket.socket] = ()

    @asynccontextmanager
    async def accepted(self, listeners: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Accept from LISTENERS, which are bound, until the block ends; they are closed then."""
        self._listeners = listeners
        for listener in listeners:
            listener.setblocking(False)
            listener.listen(BACKLOG)
        self._tasks = [asyncio.ensure_future(self._accept(listener)) for listener in listeners]
        looking = asyncio.ensure_future(self._end_idle())
        try:
            yield
        finally:
            await self.stop_accepting()
            looking.cancel()
            await asyncio.wait([looking])

    async def stop_accepting(self) -> None:
        """Accept no more; what is open goes on."""
        tasks, self._tasks = self._tasks, []
        listeners, self._listeners = self._listeners, ()
        for listener in listeners:
            # At once, both: whoever connects from here on is refused and not kept waiting.
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @contextmanager
    def at_work(self, protocol: asyncio.BaseProtocol | None) -> Iterator[None]:
        """A request of the connection of PROTOCOL is at work until the block ends."""
        connection = None if protocol is None else self._open.get(protocol)
        if connection is None:
            yield
            return
        connection.requests += 1
        try:
            yield
        finally:
            connection.requests -= 1
            connection.idle_since = _now()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        is_exhausted = False
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE}:
                    if not is_exhausted:
                        emit(Event.DESCRIPTORS_EXHAUSTED, task="listener")
                    is_exhausted = True
                    await asyncio.sleep(EXHAUSTED)
                continue  # else whoever wanted to connect is gone
            is_exhausted = False
            if not self._has_place():
                accepted.close()
                await asyncio.sleep(CROWDED)
                continue
            with suppress(OSError):
                transport, protocol = await loop.connect_accepted_socket(self._protocol, accepted)
                self._open[protocol] = _Connection(transport, _now())
            if len(self._open) >= MOST:
                await asyncio.sleep(CROWDED)

    def _has_place(self) -> bool:
        """Whether there is room for one more; the one idle for longest makes it."""
        self._forget_closed()
        if len(self._open) < MOST:
            return True
        idle = [one for one in self._open.values() if not one.requests]
        if idle:
            min(idle, key=lambda one: one.idle_since).transport.abort()
            self._forget_closed()
        return bool(idle)

    async def _end_idle(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for one in self._open.values():
                unsent = one.transport.get_write_buffer_size()
                if unsent < one.unsent:  # it is being read
                    one.idle_since = _now()
                one.unsent = unsent
                if not one.requests and _now() - one.idle_since > IDLE_WITHIN:
                    one.transport.abort()
            self._forget_closed()

    def _forget_closed(self) -> None:
        for protocol, one in list(self._open.items()):
            if one.transport.is_closing():
                del self._open[protocol]


def _now() -> float:
    return asyncio.get_running_loop().time()
