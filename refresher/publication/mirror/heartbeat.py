"""The key that says a daemon is alive."""

import os

import anyio

from refresher import __version__
from refresher.logs import Event, emit
from refresher.publication.keys import DAEMON_LIFE, Keys
from refresher.publication.server.faults import Refused, is_spoilt, unavailable
from refresher.publication.server.masters import Masters
from refresher.publication.server.rights import Rights

BEAT_EVERY = 5.0
"""Seconds between two heartbeats; two may be lost before the key ends."""


class Heartbeat:
    """Keeps one daemon's key alive.

    Args:
        instance: what tells this daemon from every other.
        started_at: when it started, in unix seconds.
    """

    def __init__(
        self, *, server: Masters, keys: Keys, rights: Rights, instance: str, started_at: float
    ) -> None:
        self._server = server
        self._rights = rights
        self._key = keys.daemon(instance)
        self._fields = {
            "pid": str(os.getpid()),
            "version": __version__,
            "started_at": str(int(started_at)),
        }

    async def run(self) -> None:
        """Beat for ever.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        while True:
            await self.beat()
            await anyio.sleep(BEAT_EVERY)

    async def beat(self) -> None:
        """Write the key once.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        fields = [part for pair in self._fields.items() for part in pair]
        written = [("HSET", self._key, *fields), ("EXPIRE", self._key, DAEMON_LIFE)]
        replies = await self._server.pipeline(written)
        if any(map(is_spoilt, replies)):
            _, *replies = await self._server.pipeline([("DEL", self._key), *written])
            emit(Event.MIRROR_REPAIRED, count=1, reason=f"{self._key} was of another type")
        for reply in replies:
            if isinstance(reply, Exception):
                fault = unavailable(reply, self._server.where)
                if not isinstance(fault, Refused):
                    raise fault
                self._rights.note(fault)
        if isinstance(replies[-1], Exception):
            await self.end()  # without an end it would outlive us

    async def end(self) -> None:
        """Delete the key: an orderly end.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        await self._server.execute("DEL", self._key)
