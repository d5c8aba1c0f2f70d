"""Host names to addresses, in threads of their own.

A resolver can hang for 40 s, and nothing can end its thread. In the loop's own executor eight
such names would hold every thread, also those that other parts of the daemon wait for.
Here one name holds one thread, however often it is asked for, and names that hang never
hold all of them.
"""

import asyncio
import errno
import socket
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 32
"""Started with the process: one that cannot start threads later still resolves."""

HANGING_AFTER = 2.0
"""Seconds. A name that took longer is asked in one of half of the threads the next time, so
that names which always hang leave the other half to everybody else."""

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

_Found = list[tuple[socket.AddressFamily, int, str]] | Exception
"""Family, protocol and address of each, or why there are none."""


@dataclass(slots=True, eq=False)
class _Lookup:
    """One name that is looked up, for everybody who waits for it."""

    host: str
    family: socket.AddressFamily
    found: "asyncio.Future[_Found]"
    started_at: float = 0.0
    is_suspect: bool = False


class Resolver(AbstractResolver):
    """Looks names up as ``getaddrinfo`` does. Needs a running loop.

    Raises:
        RuntimeError: not one thread could be started.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._waiting: deque[_Lookup] = deque()
        self._suspects: set[str] = set()
        """Names that hung the last time."""
        self._busy = 0
        self._busy_with_suspects = 0
        self._queue: SimpleQueue[_Lookup | None] = SimpleQueue()
        self._threads = self._start()

    def _start(self) -> int:
        for number in range(THREADS):
            try:
                # Daemon threads: one that hangs must not keep the process from ending.
                Thread(target=self._work, name=f"resolver-{number}", daemon=True).start()
            except RuntimeError:
                if number == 0:
                    raise
                return number
        return THREADS

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of HOST; joins a lookup of it that is under way.

        Raises:
            OSError: there is no such name, no answer, or no descriptor left to ask with.
            UnicodeError: HOST cannot be a name.
        """
        lookup = self._lookups.get((host, family))
        if lookup is None:
            lookup = _Lookup(host, family, self._loop.create_future())
            self._lookups[host, family] = lookup
            self._waiting.append(lookup)
            self._dispatch()
        found = await asyncio.shield(lookup.found)  # whoever gives up ends it for nobody else
        if isinstance(found, Exception):
            raise found
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=of,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, protocol, address in found
        ]

    async def close(self) -> None:
        """Let the threads end, each when its lookup does."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _dispatch(self) -> None:
        """Give free threads the lookups that wait, in order; suspects to half of them."""
        for lookup in list(self._waiting):
            if self._busy == self._threads:
                return
            is_suspect = lookup.host in self._suspects
            if is_suspect and self._busy_with_suspects >= max(1, self._threads // 2):
                continue
            self._waiting.remove(lookup)
            lookup.started_at, lookup.is_suspect = self._loop.time(), is_suspect
            self._busy += 1
            self._busy_with_suspects += is_suspect
            self._queue.put(lookup)

    def _finish(self, lookup: _Lookup, found: _Found) -> None:
        self._busy -= 1
        self._busy_with_suspects -= lookup.is_suspect
        if self._loop.time() - lookup.started_at > HANGING_AFTER:
            self._suspects.add(lookup.host)
        else:
            self._suspects.discard(lookup.host)
        del self._lookups[lookup.host, lookup.family]
        lookup.found.set_result(found)
        self._dispatch()

    def _work(self) -> None:
        """The life of one thread."""
        while (lookup := self._queue.get()) is not None:
            found = _look_up(lookup.host, lookup.family)
            try:
                self._loop.call_soon_threadsafe(self._finish, lookup, found)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return


def _look_up(host: str, family: socket.AddressFamily) -> _Found:
    try:
        infos = socket.getaddrinfo(
            host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [(of, protocol, _address(place)) for of, _, protocol, _, place in infos]
    except OSError as error:
        # glibc says "no such name" or "try again" when it has no descriptor to ask with.
        return _missing_descriptors() or error
    except ValueError as error:  # UnicodeError: a label that is empty or too long
        return error


def _address(place: tuple[object, ...]) -> str:
    """The address in PLACE; a link-local one of IPv6 with its zone."""
    is_in_zone = len(place) > 3 and bool(place[3])  # noqa: PLR2004  the scope id of IPv6
    return socket.getnameinfo(place, _NUMERIC)[0] if is_in_zone else str(place[0])  # type: ignore[arg-type]  # what getaddrinfo returned


def _missing_descriptors() -> OSError | None:
    """The error that opening one more descriptor brings; None if it can be opened."""
    try:
        socket.socket().close()
    except OSError as error:
        return error if error.errno in (errno.EMFILE, errno.ENFILE) else None
    return None
