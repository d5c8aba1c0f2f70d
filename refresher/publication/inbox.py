"""What consumers ask for: "version V of this grant was rejected, refresh it".

A stream with a consumer group keeps requests while no daemon runs and gives each to one
daemon; an entry is acknowledged after it was handled, so a crash repeats it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from refresher.clock import Clock
from refresher.domain.grants import is_valid_name
from refresher.errors import PublicationUnavailable, RefresherError, UnknownGrant
from refresher.logs import Event, emit
from refresher.publication.keys import REQUESTS_GROUP, Keys
from refresher.publication.server.connection import Server
from refresher.publication.server.faults import Refused

CONSUMER = "daemon"
"""One name for all daemons: entries go to one of them all the same, and no list of dead
consumers grows."""

BLOCK = 5.0
"""Seconds one read waits for requests."""

ABANDONED = 10.0
"""Seconds after which a request that was taken and not acknowledged is taken again."""

AT_ONCE = 64
"""Requests taken in one read."""

RETRY = 1.0
"""Seconds before a Redis that cannot be used is tried again; the mirror announces it."""

REASON_LENGTH = 200
"""Characters of a consumer's reason that are kept."""


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """A consumer's wish to have a grant refreshed."""

    grant: str
    version: int | None
    """The rejected version; None asks for a refresh whatever the version."""
    reason: str


Handler = Callable[[RefreshRequest], Awaitable[None]]
Entry = tuple[bytes, Mapping[bytes, bytes] | None]


class Inbox:
    """Reads consumers' requests from the stream.

    Args:
        server: is not closed here.
    """

    def __init__(self, *, server: Server, keys: Keys, clock: Clock) -> None:
        self._server = server
        self._stream = keys.requests
        self._clock = clock
        self._is_doubted = False

    async def run(self, handler: Handler) -> None:
        """Hand every request to HANDLER, for ever, whatever becomes of Redis.

        A request whose handler raises a ``RefresherError`` stays and is handed out again
        after ``ABANDONED``; one for an unknown grant is dropped.
        """
        while True:
            try:
                await self._create_group()
                await self._read(handler)
            except PublicationUnavailable as error:
                self._doubt(error)
                await anyio.sleep(RETRY * (1 + self._clock.draw()) / 2)

    async def _create_group(self) -> None:
        """Create stream and group unless they are there; from the first entry on."""
        try:
            await self._server.execute(
                "XGROUP", "CREATE", self._stream, REQUESTS_GROUP, "0", "MKSTREAM"
            )
        except Refused as refusal:
            if refusal.code != "BUSYGROUP":  # which says that it exists
                raise

    async def _read(self, handler: Handler) -> None:
        """Take requests until Redis is lost; a flush takes the group away as well."""
        claim_at = 0.0
        while True:
            try:
                if self._clock.monotonic() >= claim_at:
                    await self._handle(await self._take_abandoned(), handler)
                    claim_at = self._clock.monotonic() + ABANDONED
                await self._handle(await self._take_new(), handler)
            except Refused as refusal:
                if refusal.code not in {"NOGROUP", "UNBLOCKED"}:
                    raise
                await self._create_group()

    async def _take_new(self) -> list[Entry]:
        group = ("GROUP", REQUESTS_GROUP, CONSUMER, "COUNT", AT_ONCE)
        block = ("BLOCK", round(BLOCK * 1000), "STREAMS", self._stream, ">")
        reply = await self._server.wait_for("XREADGROUP", *group, *block, seconds=BLOCK)
        return [entry for batches in (reply or {}).values() for batch in batches for entry in batch]

    async def _take_abandoned(self) -> list[Entry]:
        """What a daemon took and, dead or refused by its vault, never acknowledged."""
        idle = round(ABANDONED * 1000)
        taken: Sequence[Any] = await self._server.execute(
            *("XAUTOCLAIM", self._stream, REQUESTS_GROUP, CONSUMER, idle, "0", "COUNT", AT_ONCE)
        )
        entries: list[Entry] = taken[1]
        return entries

    async def _handle(self, entries: Sequence[Entry], handler: Handler) -> None:
        for entry_id, fields in entries:
            if await self._is_handled(fields or {}, handler):
                await self._server.execute("XACK", self._stream, REQUESTS_GROUP, entry_id)
                await self._server.execute("XDEL", self._stream, entry_id)

    async def _is_handled(self, fields: Mapping[bytes, bytes], handler: Handler) -> bool:
        """Whether the request is done with, be it because nobody can do it."""
        try:
            request = parse_request(fields)
        except ValueError as error:
            emit(Event.REQUEST_IGNORED, reason=str(error))
            return True
        try:
            await handler(request)
        except UnknownGrant:
            emit(Event.REQUEST_IGNORED, grant=request.grant, reason="unknown grant")
        except RefresherError:
            return False  # the vault refuses just now: it is handed out again
        return True

    def _doubt(self, error: PublicationUnavailable) -> None:
        """Announce once what the mirror does not see: that requests cannot be read."""
        if isinstance(error, Refused) and error.code == "NOPERM" and not self._is_doubted:
            self._is_doubted = True
            emit(Event.REDIS_DOUBTED, reason=f"requests of consumers cannot be read: {error}")


def parse_request(fields: Mapping[bytes, bytes]) -> RefreshRequest:
    """Read one entry of the stream.

    Raises:
        ValueError: says what is wrong without quoting what anybody may have written.
    """
    text = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in fields.items()
    }
    grant, version = text.get("grant", ""), text.get("version", "")
    if not is_valid_name(grant):
        raise ValueError("malformed request: no valid grant")
    if version and not re.fullmatch(r"[0-9]{1,18}", version):
        raise ValueError("malformed request: version is no number")
    return RefreshRequest(
        grant=grant,
        version=int(version) if version else None,
        reason=text.get("reason", "")[:REASON_LENGTH],
    )
