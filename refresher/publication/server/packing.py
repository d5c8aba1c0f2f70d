"""How commands become bytes (the Redis protocol, RESP), and bytes many replies.

Every refresh sends some ten commands of up to forty words, and redis-py's way, which looks at
each word for what it may be and copies all that came before, takes as long as the rest of a
publication. hiredis packs a whole command at once.
"""

from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as ConnectionFault
from redis.exceptions import ResponseError
from redis.typing import EncodableT

from refresher.publication.server.tls import TLSConnection


class _Packing:
    """Words are text, bytes or numbers; a command is never one word with spaces in it."""

    _parser: Any

    def pack_command(self, *words: EncodableT) -> list[bytes]:
        return [_packed(words)]

    def pack_commands(self, commands: Iterable[Iterable[EncodableT]]) -> list[bytes]:
        return [b"".join(map(_packed, commands))]

    async def read_replies(self, count: int) -> list[Any]:
        """The next COUNT replies; a refusal is its exception.

        One read of the socket mostly brings many. Those that are there are taken without the
        time-out and the coroutines that the library has for each.
        """
        # Of the library's parsers only the one in C has it; the other is asked for each reply.
        reader = getattr(self._parser, "_reader", None)
        replies: list[Any] = []
        while len(replies) < count:
            try:
                replies.append(await self.read_response())  # type: ignore[attr-defined]  # a connection's
            except ResponseError as refusal:
                replies.append(refusal)
            while reader is not None and len(replies) < count:
                reply = reader.gets()
                if type(reply) is object:
                    break  # its word for: the next one has not come yet
                if isinstance(reply, ConnectionFault):
                    raise reply
                replies.append(reply)
        return replies


def _packed(command: Iterable[EncodableT]) -> bytes:
    packed: bytes = pack_command(tuple(command))  # type: ignore[arg-type]  # of any length
    return packed


class PackingConnection(_Packing, Connection):
    """A connection in the clear."""


class PackingUnixConnection(_Packing, UnixDomainSocketConnection):
    """A connection to a socket of this machine."""


class PackingTLSConnection(_Packing, TLSConnection):
    """A connection by TLS."""
