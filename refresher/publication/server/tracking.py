"""Notices within milliseconds that somebody else changed, deleted or flushed a key.

One RESP3 connection with ``CLIENT TRACKING ON BCAST`` hears of DEL, expiry, eviction,
foreign writes and flushes, and of our own writes as well (NOLOOP spares only the
connection that wrote). A deadline of its own finds a frozen server, which TCP does not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from redis.asyncio import Connection
from redis.exceptions import ResponseError

from refresher.publication.keys import Keys
from refresher.publication.server.connection import ANSWER_TIME, Server
from refresher.publication.server.faults import translated

PING_EVERY = 0.5
"""Seconds from one answer to the next ping."""

Changed = Callable[[str | None], None]
"""Is told the grant a changed key belongs to, or None when everything was flushed."""

Heard = Callable[[str], None]
"""Is told every changed key that consumers may write."""


async def watch(
    server: Server, keys: Keys, changed: Changed, heard: Heard, *, task_status: TaskStatus[bool]
) -> None:
    """Call CHANGED for every change of a token or status key, until the connection is lost.

    HEARD is called for every change of a key that consumers write.

    Reports to ``task_status`` whether tracking is on; returns at once where it is refused.

    Raises:
        PublicationUnavailable: when the connection is lost or the server stays silent; in
            an exception group once tracking is on.
    """
    connection = await server.open_connection()
    try:
        with translated(server.where), anyio.fail_after(ANSWER_TIME):
            is_on = await _turn_on(connection, keys, changed, heard)
        task_status.started(is_on)
        if not is_on:
            return
        pongs, answered = anyio.create_memory_object_stream[None](1)
        async with pongs, answered, anyio.create_task_group() as group:
            group.start_soon(_listen, server, connection, pongs)
            group.start_soon(_ping, server, connection, answered)
    finally:
        with anyio.CancelScope(shield=True):
            await server.release(connection)


async def _turn_on(connection: Connection, keys: Keys, changed: Changed, heard: Heard) -> bool:
    """Ask for invalidations of our keys; False where the server or its ACL refuses."""

    async def invalidated(message: Sequence[list[bytes] | None]) -> None:
        names = message[1]
        if names is None:
            changed(None)
            return
        for raw in names:
            key = raw.decode(errors="replace")
            if name := keys.name_of(key):
                changed(name)
            else:
                heard(key)

    # The private parser is the only way to its handler of invalidations.
    parser: Any = connection._parser  # noqa: SLF001  see above
    parser.set_invalidation_push_handler(invalidated)
    tracked = (keys.tokens, keys.statuses, keys.rejections, keys.requests)
    prefixes = [part for beginning in tracked for part in ("PREFIX", beginning)]
    await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
    try:
        await connection.read_response()
    except ResponseError:
        return False
    return True


async def _listen(
    server: Server, connection: Connection, pongs: MemoryObjectSendStream[None]
) -> None:
    """Read for ever: the parser hands invalidations on, what remains are pongs.

    A refused ping is an answer as well.
    """
    with translated(server.where):
        while True:
            try:
                reply = await connection.read_response(timeout=math.inf, push_request=True)
            except ResponseError:
                reply = "refused"
            if reply is not None:
                pongs.send_nowait(None)


async def _ping(
    server: Server, connection: Connection, answered: MemoryObjectReceiveStream[None]
) -> None:
    """Give the server ``ANSWER_TIME`` for every ping."""
    while True:
        with translated(server.where), anyio.fail_after(ANSWER_TIME):
            await connection.send_command("PING", check_health=False)
            await answered.receive()
        await anyio.sleep(PING_EVERY)
